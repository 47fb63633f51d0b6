defmodule IcePage.Web do
  @moduledoc """
  The least of a web server that the example needs, by OTP alone: GET of two paths, a connection for
  each. In an application of yours this is Phoenix or Plug.
  """
  use Task, restart: :permanent

  @page Path.expand("../../priv/page.html", __DIR__)
  @external_resource @page
  @html File.read!(@page)

  def start_link(port) do
    {:ok, socket} =
      :gen_tcp.listen(port, [:binary, packet: :http_bin, active: false, reuseaddr: true])

    :persistent_term.put(__MODULE__, :inet.port(socket))
    {:ok, pid} = Task.start_link(__MODULE__, :accept, [socket])
    # It is closed when nobody owns it any more.
    :ok = :gen_tcp.controlling_process(socket, pid)
    {:ok, pid}
  end

  @doc "Where the page is, for whoever let the system choose."
  def port do
    {:ok, port} = :persistent_term.get(__MODULE__)
    port
  end

  @doc false
  def accept(listener) do
    {:ok, socket} = :gen_tcp.accept(listener)
    {:ok, pid} = Task.Supervisor.start_child(IcePage.Connections, __MODULE__, :serve, [socket])
    # It may have ended already.
    _ = :gen_tcp.controlling_process(socket, pid)
    accept(listener)
  end

  @doc false
  def serve(socket) do
    with {:ok, {:http_request, :GET, {:abs_path, target}, _}} <- :gen_tcp.recv(socket, 0, 5000),
         :ok <- skip_headers(socket) do
      {status, type, body} = answer(URI.parse(target))

      :gen_tcp.send(socket, [
        "HTTP/1.1 #{status}\r\ncontent-type: #{type}\r\ncontent-length: #{byte_size(body)}\r\n",
        "cache-control: no-store\r\nconnection: close\r\n\r\n",
        body
      ])
    end

    :gen_tcp.close(socket)
  end

  defp skip_headers(socket) do
    case :gen_tcp.recv(socket, 0, 5000) do
      {:ok, :http_eoh} -> :ok
      {:ok, {:http_header, _, _, _, _}} -> skip_headers(socket)
      other -> other
    end
  end

  defp answer(%URI{path: "/"}), do: {"200 OK", "text/html; charset=utf-8", @html}

  # Who asks is what your session says, never what the request says.
  defp answer(%URI{path: "/ice-servers", query: query}) do
    name = query |> to_string() |> URI.decode_query() |> Map.get("name", "guest")

    if name =~ ~r/^[\w.@-]{1,64}$/u do
      # Any JSON library does; this one is there.
      body = :meerkat_json.encode(%{iceServers: IcePage.ice_servers(name)})
      {"200 OK", "application/json", body}
    else
      {"400 Bad Request", "text/plain", "this is no name\n"}
    end
  end

  defp answer(_), do: {"404 Not Found", "text/plain", "there is nothing here\n"}
end
