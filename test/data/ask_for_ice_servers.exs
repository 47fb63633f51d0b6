# What a browser does with examples/elixir: the page, iceServers for a user, an allocation with them.
{:ok, _} = Application.ensure_all_started(:inets)
url = ~c"http://127.0.0.1:#{IcePage.Web.port()}"

# With options of TLS, though there is none: otherwise httpc asks :public_key for them, which Mix hides.
get = fn path ->
  {:ok, {{_, status, _}, _, body}} =
    :httpc.request(:get, {url ++ path, []}, [ssl: []], body_format: :binary)

  {status, body}
end

{200, page} = get.(~c"/")
true = page =~ "new RTCPeerConnection({ iceServers })"
{404, _} = get.(~c"/etc/passwd")
{400, _} = get.(~c"/ice-servers?name=a:b")
{200, json} = get.(~c"/ice-servers?name=alice")
{:ok, %{"iceServers" => servers}} = :meerkat_json.decode(json)
%{"urls" => [uri | _], "username" => user, "credential" => password} = List.last(servers)

{:ok, client} =
  :meerkat_client.start_link(%{server: uri, username: user, password: password})

{:ok, %{relayed: _}} = :meerkat_client.allocate(client)
[%{user: ^user}] = :meerkat.allocations(:relay, %{})
:ok = :meerkat_client.release(client)
[_, name] = String.split(user, ":")
IO.puts("allocated for: #{name}")
