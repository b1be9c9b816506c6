module github.com/slipway-build/slipway/internal/interop

go 1.26.0

replace github.com/slipway-build/slipway => ../..

require (
	github.com/coder/websocket v1.8.15
	github.com/slipway-build/slipway v0.0.0
)

require (
	github.com/gorilla/websocket v1.5.3 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
)
