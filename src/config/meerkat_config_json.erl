%% Values of the configuration as JSON has them, for programs that read `config show --json`:
%% numbers and booleans as such, lists as arrays, no value as null, all else as text. What is
%% secret is masked. Pure.
-module(meerkat_config_json).

-export([value/2, shown/2]).

-define(MASK, <<"(not shown)">>).

%% For programs, and for people.
-spec shown(meerkat_config_value:type(), meerkat_config_value:value()) ->
    #{value := meerkat_json:value(), text := binary()}.
shown(Type, Value) ->
    #{value => value(Type, Value),
      text => unicode:characters_to_binary(meerkat_config_value:render(Type, Value))}.

-spec value(meerkat_config_value:type(), meerkat_config_value:value()) -> meerkat_json:value().
value(_Type, undefined) -> null;
%% Booleans; and words that stand for a value made elsewhere: any, auto, random.
value(_Type, Word) when is_atom(Word) -> Word;
value({integer, _, _}, Number) -> Number;
value(secret, _Secret) -> ?MASK;
%% Their passwords stay out: names alone.
value(users, Users) -> lists:sort(maps:keys(Users));
value(realms, Groups) -> [Name || #{name := Name} <- Groups];
value(listeners, Groups) -> [group([ip, port, realm], Group) || Group <- Groups];
value(relays, Groups) ->
    [group([ip, advertised, min_port, max_port], Group#{ip => Ip})
     || #{local := Ip} = Group <- Groups];
value(relay_ip, {Ip, Ip}) -> value(relay_ip, Ip);
value({list, Type}, Values) -> [value(Type, Value) || Value <- Values];
value({Text, _Max}, Value) when Text =:= text; Text =:= opaque_string -> Value;
value(Type, Value) -> unicode:characters_to_binary(meerkat_config_value:render(Type, Value)).

group(Fields, Group) ->
    maps:map(fun field/2, maps:with(Fields, Group)).

field(Field, Ip) when Field =:= ip; Field =:= advertised -> value(listen_address, Ip);
field(_Field, Value) -> Value.
