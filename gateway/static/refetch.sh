#!/bin/sh
# Fetches the vendored pages again, exactly as README.md lists them. Needs npm, openssl, sed and gzip.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# npm pack runs no install script: swagger-ui-dist would pull one in that reports each installation.
fetch() { # package version sha512 files...
    package=$1 version=$2 sha512=$3
    shift 3
    (cd "$work" && npm pack --silent "$package@$version" >/dev/null)
    archive=$work/$package-$version.tgz
    actual=$(openssl dgst -sha512 -binary "$archive" | openssl base64 -A)
    if [ "$actual" != "$sha512" ]; then
        echo "$package@$version has sha512 $actual" >&2
        exit 1
    fi
    rm -rf "${here:?}/$package-$version"
    mkdir "$here/$package-$version"
    for file in "$@"; do
        tar -xzOf "$archive" "package/$file" >"$here/$package-$version/$(basename "$file")"
    done
}

fetch swagger-ui-dist 5.35.0 \
    U06rpMtW9V3XPGOBeamTUSr0Z09jMX4IJuANpE/EZbAhw0G8CgwrzU4YmXkn/h0wCDNsXdGarTNNHC3sU8yVUQ== \
    swagger-ui-bundle.js swagger-ui-bundle.js.LICENSE.txt swagger-ui.css favicon-32x32.png LICENSE NOTICE
fetch redoc 2.5.4 \
    M6jWhG1qoBnH6TFmzJnstyCZ87HmOY/UzDm78mHiYihEdlV/YcS9ogOo1NlElnJMeLsyxHFe2yFc4sNjHTrABQ== \
    bundles/redoc.standalone.js bundles/redoc.standalone.js.LICENSE.txt LICENSE

# Redoc asks a content network for the logo in its footer; the page must work without the internet.
logo='https://cdn.redoc.ly/redoc/logo-mini.svg'
redoc=$here/redoc-2.5.4/redoc.standalone.js
grep -q "$logo" "$redoc"
sed -i "s|$logo|data:,|g" "$redoc"

for file in "$here"/swagger-ui-dist-5.35.0/swagger-ui* "$redoc"; do
    case $file in *.js | *.css)
        # Source maps are not vendored: browsers would only ask for them in vain.
        sed -i -E '/^(\/\/|\/\*)# sourceMappingURL=/d' "$file"
        gzip -9nk "$file" ;;
    esac
done
