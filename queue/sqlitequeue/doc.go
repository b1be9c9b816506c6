// Package sqlitequeue keeps the builds of package queue in an SQLite database.
package sqlitequeue
