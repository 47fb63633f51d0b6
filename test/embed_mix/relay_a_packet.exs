# Two clients of the embedded server, each behind its relayed address, and a packet between them.
credentials = :meerkat.credentials(:embedded, "alice")
uri = Enum.find(credentials.uris, &String.starts_with?(&1, "turn:"))

open = fn ->
  {:ok, client} =
    :meerkat_client.start_link(%{
      server: uri,
      username: credentials.username,
      password: credentials.password
    })

  {:ok, allocation} = :meerkat_client.allocate(client)
  {client, allocation.relayed}
end

{alice, alice_at} = open.()
{bob, bob_at} = open.()
:ok = :meerkat_client.permit(alice, bob_at)
{:ok, _channel} = :meerkat_client.bind_channel(bob, alice_at)
:ok = :meerkat_client.send(bob, alice_at, "through the relay")

receive do
  {:meerkat_client, ^alice, {:data, ^bob_at, payload, _via}} -> IO.puts("relayed: #{payload}")
after
  5000 -> raise "nothing came through the relay"
end
