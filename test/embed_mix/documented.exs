# What `h :meerkat` shows in iex.
{:docs_v1, _, :erlang, _, _, _, documented} = Code.fetch_docs(:meerkat)
[text] = for {{:function, :child_spec, 1}, _, _, %{"en" => text}, _} <- documented, do: text
[{:p, [], [first | _]} | _] = text
IO.puts("documented: #{first}")
