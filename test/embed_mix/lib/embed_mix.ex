defmodule EmbedMix do
  use Application

  @server [name: :embedded, listen_ip: "127.0.0.1", listen_port: 0, relay_ip: "127.0.0.1",
           secret: "change me"]

  def start(_type, _args) do
    Supervisor.start_link([{:meerkat, @server}], strategy: :one_for_one)
  end
end
