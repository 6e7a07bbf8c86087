# Prints what Xen and dom0's kernel have said, in sections.
#   $1 separator nobody can foresee
section() { printf '\n%s %s\n' "$separator" "$1"; }
separator=$1
section dom0_dmesg.txt
dmesg
section xl_dmesg.txt
xl dmesg
section end
