%% The OpaqueString profile (RFC 8265 4.2), by which usernames, realms and passwords are made alike
%% before they are hashed (RFC 8489 9.2.2): pure. It is for what is configured; what clients send
%% they have prepared themselves, and it is taken as it is.
%%
%% Which characters there are, `re' knows. One that is newer than its tables counts as unassigned
%% and is refused; so is what the profile refuses (RFC 8264 9): controls, format characters,
%% what is ignored by default, private use, old Hangul jamo, joiners outside of their context.
-module(meerkat_opaque_string).

-export([prepare/1]).

%% RFC 8264 9.11, 9.12, 9.13, 9.6 (DISALLOWED), 9.9, 9.16; in the words of `re'.
-define(DISALLOWED,
        "\\p{Cc}\\p{Cf}\\p{Cn}\\p{Co}\\p{Cs}\\p{Zl}\\p{Zp}"
        "\\x{34f}\\x{115f}\\x{1160}\\x{17b4}\\x{17b5}\\x{180b}-\\x{180f}\\x{3164}\\x{ffa0}"
        "\\x{fe00}-\\x{fe0f}\\x{e0100}-\\x{e01ef}"
        "\\x{640}\\x{7fa}\\x{302e}\\x{302f}\\x{3031}-\\x{3035}\\x{303b}"
        "\\x{1100}-\\x{11ff}\\x{a960}-\\x{a97c}\\x{d7b0}-\\x{d7fb}").

%% Signs that silence a vowel: canonical combining class 9.
-define(VIRAMA,
        "\\x{94d}\\x{9cd}\\x{a4d}\\x{acd}\\x{b4d}\\x{bcd}\\x{c4d}\\x{ccd}\\x{d4d}\\x{dca}\\x{e3a}"
        "\\x{f84}\\x{1039}\\x{103a}\\x{1714}\\x{1734}\\x{17d2}\\x{1a60}\\x{1b44}\\x{1baa}\\x{1bab}"
        "\\x{1bf2}\\x{1bf3}\\x{2d7f}\\x{a806}\\x{a8c4}\\x{a953}\\x{a9c0}\\x{aaf6}\\x{abed}").

%% Scripts whose letters join.
-define(JOINING, "[\\p{Arabic}\\p{Syriac}\\p{Mandaic}\\p{Mongolian}\\p{Nko}\\p{Phags_Pa}]").

%% The contexts of RFC 5892 A, each as what may not be found. A.1 asks which letters join on
%% which side; here any two of a joining script do.
-define(OUT_OF_CONTEXT, [
    "(?<![" ?VIRAMA "])\\x{200d}",                                             % A.2
    "(?<![" ?VIRAMA "])(?<!" ?JOINING ")\\x{200c}",                            % A.1
    "(?<![" ?VIRAMA "])\\x{200c}(?!" ?JOINING ")",
    "(?<!l)\\x{b7}|\\x{b7}(?!l)",                                              % A.3
    "\\x{375}(?!\\p{Greek})",                                                  % A.4
    "(?<!\\p{Hebrew})[\\x{5f3}\\x{5f4}]",                                      % A.5, A.6
    "^[^\\p{Hiragana}\\p{Katakana}\\p{Han}]*\\x{30fb}"
        "[^\\p{Hiragana}\\p{Katakana}\\p{Han}]*$",                             % A.7
    "[\\x{660}-\\x{669}].*[\\x{6f0}-\\x{6f9}]",                                % A.8, A.9
    "[\\x{6f0}-\\x{6f9}].*[\\x{660}-\\x{669}]"
]).

%% The string as it is hashed: spaces of every kind are U+0020, and it is composed (NFC). `error'
%% when it is empty, not UTF-8, or has what the profile does not allow.
-spec prepare(binary()) -> {ok, binary()} | error.
prepare(Text) when is_binary(Text), Text =/= <<>> ->
    case is_utf8(Text) andalso not lists:any(fun(Bad) -> has(Text, Bad) end, bad()) of
        true ->
            Spaced = re:replace(Text, "\\p{Zs}", " ", [unicode, global, {return, binary}]),
            {ok, unicode:characters_to_nfc_binary(Spaced)};
        false ->
            error
    end;
prepare(<<>>) ->
    error.

bad() ->
    ["(?![\\x{200c}\\x{200d}])[" ?DISALLOWED "]" | ?OUT_OF_CONTEXT].

is_utf8(Text) ->
    is_list(unicode:characters_to_list(Text)).

has(Text, Pattern) ->
    re:run(Text, Pattern, [unicode, dotall, {capture, none}]) =:= match.
