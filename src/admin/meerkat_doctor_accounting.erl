%% What meerkat_doctor says of accounting: of a server that runs, whether records are taken and
%% whether some were lost; where none runs, whether the spool could be had.
-module(meerkat_doctor_accounting).

-export([findings/1]).

%% `accounting` is what a server that runs tells (meerkat:status/1); without it Config is as a file
%% or the environment has it.
-spec findings(Config :: map()) -> [meerkat_doctor:finding()].
findings(#{accounting := undefined}) ->
    [];
findings(#{accounting := #{lost := Lost, trouble := Trouble, sinks := Sinks}}) ->
    %% The spool comes first: if it cannot be written or read, sinks get no records either.
    [finding(error, Trouble, "the disk must have room for them (accounting_spool)")
     || is_binary(Trouble)]
        ++ [sink(atom_to_list(Id), Sink) || {Id, Sink} <- lists:sort(maps:to_list(Sinks))]
        ++ [finding(warning, [integer_to_list(Lost), " records that could not be kept are lost"],
                    "the log tells when and why") || Lost > 0];
findings(Config) ->
    case meerkat_settings:new(default, Config) of
        {ok, Settings} -> [spool(Settings) || meerkat_account_sink:wanted(Settings) =/= #{}];
        {error, _} -> []
    end.

sink(Id, #{trouble := Trouble, waiting := Waiting}) when is_binary(Trouble) ->
    finding(warning, [Id, " takes no records: ", Trouble, "; ", integer_to_list(Waiting), " wait"],
            "they are sent as soon as it does; beyond accounting_spool_bytes the oldest are lost");
sink(Id, #{lost := Lost}) when Lost > 0 ->
    finding(warning, [integer_to_list(Lost), " records were lost to ", Id],
            "a larger accounting_spool_bytes lasts for longer");
sink(Id, #{delivered := Delivered}) ->
    finding(ok, [Id, " has taken ", integer_to_list(Delivered), " records"], none).

spool(Settings) ->
    case meerkat_account:can_keep(Settings) of
        ok -> finding(ok, "records can be kept until they are taken", none);
        {error, Sentence} -> finding(error, Sentence,
                                     "accounting_spool (ACCOUNTING_SPOOL) names another directory")
    end.

finding(Verdict, Text, Remedy) ->
    Finding = #{name => accounting, verdict => Verdict,
                text => unicode:characters_to_binary(Text)},
    case Remedy of
        none -> Finding;
        _ -> Finding#{remedy => unicode:characters_to_binary(Remedy)}
    end.
