# Prints what Xen and dom0's kernel have said, in sections.
#   $1 separator nobody can foresee   $2 byte offset into `xl dmesg` seen so far   $3 lines of dmesg seen so far
section() { printf '\n%s %s\n' "$separator" "$1"; }
separator=$1
section dom0_dmesg.txt
dmesg | tail -n "+$(($3 + 1))"
section xl_dmesg.txt
xl dmesg | tail -c "+$(($2 + 1))"
section end
