defmodule EmbedMix.MixProject do
  use Mix.Project

  def project do
    [app: :embed_mix, version: "0.1.0", deps: [{:meerkat, path: "../..", manager: :rebar3}]]
  end

  def application, do: [mod: {EmbedMix, []}]
end
