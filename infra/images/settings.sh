# Settings come as environment variables. In: a prefix, and a sed script that makes a name of what follows it in lower case.
# Out: name=value, a line each. `settings KAFKA_ 's/_/./g'` makes log.dirs=/data of KAFKA_LOG_DIRS=/data.
settings() {
  local name value
  while IFS='=' read -r -d '' name value; do
    [[ $name == "$1"* ]] || continue
    name=${name#"$1"}
    echo "$(sed -E "$2" <<<"${name,,}")=$value"
  done < <(env -0)
}
