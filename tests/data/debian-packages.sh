#!/bin/sh
# Prints the Debian package index of this machine as JSON lines, one package each, for `dhtctl import --key-field _id`.
# Each line has the fields of the package's record and `_id`: Package:Architecture=Version.
# Needs apt (run `apt-get update` first) and awk. Without apt, debian-packages.jsonl beside this file is a sample.
set -eu
apt-cache dumpavail | LC_ALL=C awk '
function json(text) {
    gsub(/\\/, "\\\\", text); gsub(/"/, "\\\"", text); gsub(/\t/, "\\t", text); gsub(/\r/, "\\r", text)
    gsub(/\n/, "\\n", text); gsub(/[\001-\010\013\014\016-\037\177]/, "?", text)
    return "\"" text "\""
}
function put(    i) {
    if (!count) return
    printf "{\"_id\":%s", json(field["Package"] ":" field["Architecture"] "=" field["Version"])
    for (i = 1; i <= count; i++) printf ",%s:%s", json(name[i]), json(field[name[i]])
    print "}"
    count = 0; split("", field)
}
/^$/ { put(); next }
/^[ \t]/ { field[name[count]] = field[name[count]] "\n" $0; next }
{
    colon = index($0, ":")
    key = substr($0, 1, colon - 1); value = substr($0, colon + 1); sub(/^ +/, "", value)
    if (!(key in field)) name[++count] = key
    field[key] = value
}
END { put() }
'
