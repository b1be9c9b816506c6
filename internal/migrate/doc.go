// Package migrate brings the tables of a package to the version that its code knows.
//
// A package has a directory of steps, files of SQL that are run once each and in order, see [Load], and a table of one row, the
// ledger, which tells how far they were run. Steps are run in a transaction, all or none. A step says which versions of the code can
// still work with what it leaves behind, so that programs of two versions can use one database while a service is upgraded, and so
// that one that cannot finds out. It may say another of tables that are made just now, on which older programs have never worked.
//
// Who calls [Runner.Apply] keeps others from doing so at the same time: SQLite by its one write lock, PostgreSQL by [TakeTurn].
package migrate
