defmodule IcePage do
  @moduledoc """
  A web application with its own relay: one supervision tree with a server of Meerkat's and a page
  that hands out `iceServers` for it.
  """
  use Application

  @impl true
  def start(_type, _args) do
    children = [
      {:meerkat, relay()},
      {Task.Supervisor, name: IcePage.Connections},
      {IcePage.Web, port("PORT", 4000)}
    ]

    # The page without the relay is of no use, and the other way round.
    Supervisor.start_link(children, strategy: :rest_for_one, name: IcePage.Supervisor)
  end

  @doc """
  What a browser needs for RTCPeerConnection, for a user of yours. The credentials are made for an
  hour; quotas count by the name.
  """
  def ice_servers(name) do
    %{iceServers: servers} = :meerkat.credentials(:relay, name, 3600)
    servers
  end

  # Options are the keys of docs/configuration.md. A secret that is not set is drawn at each start,
  # which is enough where nobody else makes credentials.
  defp relay do
    [name: :relay, listen_port: port("TURN_PORT", 3478), user_quota: 10] ++
      for(ip <- List.wrap(System.get_env("RELAY_IP")), do: {:relay_ip, ip})
  end

  defp port(variable, default) do
    String.to_integer(System.get_env(variable, Integer.to_string(default)))
  end
end
