# Prints all that a dead domain can leave behind on a host, in sections. One round trip for all of it.
#   $1 separator nobody can foresee
section() { printf '\n%s %s\n' "$separator" "$1"; }
separator=$1
section interrupts.txt
cat /proc/interrupts
section irq_desc.txt
grep -H '' /sys/kernel/irq/*/chip_name
section pciback_slots.txt
cat /sys/bus/pci/drivers/pciback/slots
section processes.txt
ps -e -o pid= -o stat= -o comm= -o args=
section xenstore.txt
xenstore-ls -f /
section xl_list.txt
xl list
section xl_info.txt
xl info
section debugkeys.txt
xl debug-keys tiQeqmt 2>&1 || exit 1  # key t before and behind, as in snapshot.sh
section xl_dmesg.txt
xl dmesg
section end
