# Prints what Xen and dom0's kernel have said, in sections.
#   $1 separator nobody can foresee
section() { printf '\n%s %s\n' "$separator" "$1"; }
separator=$1
section dom0_dmesg.txt
dmesg
xl debug-keys t >&2  # a line that no other is like: what was lost before it may stand on the recorded console
section xl_dmesg.txt
xl dmesg
section end
