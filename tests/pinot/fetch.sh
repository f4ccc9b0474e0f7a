#!/usr/bin/env bash
# tests/pinot/fetch.sh FOLDER: the jars of a real Apache Pinot into that folder, by Maven.
# Fails with a line that says why where they are not to be had; done before, it does nothing.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
folder="${1:?the folder for the jars}"
stamp="$folder/.fetched"

fail() {
	echo "no real Pinot: $*" >&2
	exit 1
}

if ! command -v java >/dev/null || ! command -v mvn >/dev/null; then
	command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || fail "java and mvn are needed"
	export DEBIAN_FRONTEND=noninteractive
	apt-get -qq update >/dev/null &&
		apt-get -qq install --no-install-recommends openjdk-17-jre-headless maven >/dev/null ||
		fail "java and mvn could not be installed"
fi

if [ "$stamp" -nt "$here/pom.xml" ]; then exit 0; fi

started=$SECONDS
rm -rf "$folder"
mkdir -p "$folder"
timeout 300 mvn --batch-mode --quiet --no-transfer-progress -Dstyle.color=never \
	--file "$here/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$(cd "$folder" && pwd)" ||
	fail "Maven could not bring the jars"
touch "$stamp"
echo "a real Pinot, $(du -sm "$folder" | cut -f1) MB of jars, took $((SECONDS - started)) s"
