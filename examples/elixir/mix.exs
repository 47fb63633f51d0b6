defmodule IcePage.MixProject do
  use Mix.Project

  # Meerkat's sources; two directories up in its own repository.
  @meerkat System.get_env("MEERKAT_PATH", "../..")

  def project do
    [app: :ice_page, version: "0.1.0", deps: [{:meerkat, path: @meerkat, manager: :rebar3}]]
  end

  def application, do: [mod: {IcePage, []}]
end
