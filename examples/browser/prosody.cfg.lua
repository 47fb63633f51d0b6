-- A prosody for the example: on loopback, WebSocket only, two users. start.mjs runs it and sets what
-- begins with ENV_; for a prosody of your own the lines under "Meerkat" are all that is to be added.
data_path = ENV_XMPP_DATA
pidfile = ENV_XMPP_DATA .. "/prosody.pid"
certificates = ENV_XMPP_DATA
log = { warn = "*console" }
run_as_root = true                       -- only counts if it is root who tries this

modules_enabled = { "roster", "saslauth", "disco", "ping", "groups", "websocket", "turn_external" }
modules_disabled = { "s2s", "tls" }
authentication = "internal_hashed"
groups_file = "groups.txt"               -- the users are each other's contacts

-- Meerkat: credentials are made from the secret that both know, for whoever has logged in (XEP-0215).
turn_external_host = ENV_TURN_HOST
turn_external_port = tonumber(ENV_TURN_PORT)
turn_external_secret = ENV_STUN_SECRET
turn_external_ttl = 3600

-- WebSocket (RFC 7395) without TLS: fit for loopback, or behind a proxy that has TLS.
c2s_ports = {}
http_ports = { tonumber(ENV_XMPP_PORT) }
http_interfaces = { "127.0.0.1" }
https_ports = {}
http_default_host = "localhost"
consider_websocket_secure = true

VirtualHost "localhost"
