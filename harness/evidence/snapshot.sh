# Prints everything there is to see of a device from dom0, in sections. One round trip for all of it.
#   $1 separator nobody can foresee   $2 BDF   $3 xenstore's node for the domain that has it
# Each program that is started costs a host its time, an emulated one a tenth of a second: none where the shell knows.
# Both logs whole: they are rings, and where they were read last is found by what stands there (xen/keys/ring.py). Key t makes
# Xen print a line that no other is like: before the dumps, to see that they are whole, and behind them, to read on there.
section() { printf '\n%s %s\n' "$separator" "$1"; }
separator=$1 device=/sys/bus/pci/devices/$2
section config.hex
od -An -v -tx1 "$device/config"
section driver.txt
readlink "$device/driver"
section physfn.txt
[ -L "$device/physfn" ] && readlink "$device/physfn"
section lspci.txt
lspci -n -vvv -s "$2"
section xl_list.txt
xl list
section xl_pci_assignable.txt
xl pci-assignable-list
section owner_domid.txt
xenstore-read "$3" 2>&1
section dom0_dmesg.txt
dmesg
section debugkeys.txt
xl debug-keys tMQit 2>&1
section xl_dmesg.txt
xl dmesg
section end
