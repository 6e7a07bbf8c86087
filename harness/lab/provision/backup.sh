# Files as they were. $1: folder of the backup; then `keep NUMBER PATH...`, `look PATH...`, `back PATH absent` or
# `back PATH NUMBER SHA256`.
set -eu
umask 077
LC_ALL=C
export LC_ALL
base=$1 verb=$2
shift 2
told() { # what a path is; the copy's number comes first
    if [ -L "$2" ] || { [ -e "$2" ] && [ ! -f "$2" ]; }; then echo "other $2"
    elif [ -f "$2" ]; then
        sum=$(sha256sum <"$2")
        echo "file $1 $(stat -c '%a %u:%g' "$2") ${sum%% *} $2"
    else
        echo "absent $2"
    fi
}
case $verb in
look)
    for path; do told 0 "$path"; done
    ;;
keep)
    number=$1
    shift
    mkdir -p "$base/files"
    for path; do
        folder=${path%/*}
        [ -d "$folder" ] || echo "nofolder $folder"
        told "$number" "$path"
        if [ -f "$path" ] && [ ! -L "$path" ]; then
            cp --preserve=all "$path" "$base/files/$number"
            cmp "$path" "$base/files/$number"
        fi
        number=$((number + 1))
    done
    sync -f "$base"
    ;;
back)
    path=$1
    if [ "$2" = absent ]; then
        rm -f "$path"
        exit 0
    fi
    copy=$base/files/$2
    sum=$(sha256sum <"$copy")
    [ "${sum%% *}" = "$3" ] || { echo "the backup of $path is damaged" >&2; exit 1; }
    (umask 022 && mkdir -p "${path%/*}")
    trap 'rm -f "$path.maskall-new"' EXIT
    cp --preserve=all "$copy" "$path.maskall-new"
    mv -f "$path.maskall-new" "$path"
    sync -f "$path"
    ;;
esac
