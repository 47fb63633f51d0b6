defmodule EmbedMix.MixProject do
  use Mix.Project

  # The checkout it lies in, or what a package of Meerkat was unpacked into.
  @meerkat System.get_env("MEERKAT_PATH", "../..")

  def project do
    [app: :embed_mix, version: "0.1.0", deps: [{:meerkat, path: @meerkat, manager: :rebar3}]]
  end

  def application, do: [mod: {EmbedMix, []}]
end
