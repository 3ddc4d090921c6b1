_knhk_test_cache() {
    # Bash ends words at colons, which names of tests have: put them together again.
    local words=() word glue= i
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ ${#words[@]} -gt 1 && ( -n $glue || $word == :* ) ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
        [[ $word == *: ]] && glue=1 || glue=
    done
    local current=${words[${#words[@]} - 1]} IFS=$'\n'
    COMPREPLY=($(
        _CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) \
            KNHK_TEST_CACHE_COMPLETE=bash knhk-test-cache -- "${words[@]}" 2>/dev/null
    ))
    # Bash replaces only what follows the last colon.
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
        local before=${current%"${current##*:}"}
        COMPREPLY=("${COMPREPLY[@]#"$before"}")
    fi
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/:] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -o bashdefault -F _knhk_test_cache knhk-test-cache
