# Everything the safety gate has to know of a host, in sections; reads only. $1: separator nobody can foresee.
# Built-ins instead of programs wherever it goes: an emulated host needs tens of milliseconds to start one.
section() { printf '\n%s %s\n' "$separator" "$1"; }
# Print "$1 $2 VALUE" if the file $3 can be read; only its first line.
attribute() {
    value=
    { read -r value <"$3" || [ "$value" ]; } 2>/dev/null && printf '%s %s %s\n' "$1" "$2" "$value"
}
# Print "$1 $2 PATH", where the directory $3 really is.
real() { cd -P "$3" 2>/dev/null && printf '%s %s %s\n' "$1" "$2" "$PWD" && cd /; }
whole() { cat "$1" 2>/dev/null || echo "missing $1"; }
separator=$1
PATH=$PATH:/usr/sbin:/sbin
LC_ALL=C
export LC_ALL PATH
section boot_id
whole /proc/sys/kernel/random/boot_id
section kernel
whole /proc/sys/kernel/osrelease
section os_release
whole /etc/os-release
section cmdline
whole /proc/cmdline
section consoles
whole /proc/consoles
section ssh
session=$SSH_CONNECTION process=$PPID
while [ -z "$session" ] && [ "$process" -gt 1 ]; do # sudo drops it from our own environment
    session=$(tr '\0' '\n' 2>/dev/null <"/proc/$process/environ" | sed -n 's/^SSH_CONNECTION=//p')
    parent=1
    while read -r key value; do [ "$key" = PPid: ] && parent=$value; done 2>/dev/null <"/proc/$process/status"
    process=$parent
done
printf '%s\n' "$session"
section pci
for device in /sys/bus/pci/devices/*; do
    [ -e "$device/vendor" ] || continue
    bdf=${device##*/}
    real "$bdf" realpath "$device"
    for name in vendor device subsystem_vendor subsystem_device class boot_vga driver_override reset_method \
        sriov_numvfs; do
        [ -e "$device/$name" ] && attribute "$bdf" "$name" "$device/$name"
    done
    [ -e "$device/reset" ] && echo "$bdf reset 1"
    [ -e "$device/physfn" ] && echo "$bdf is_vf 1"
    real "$bdf" physfn "$device/physfn"
    real "$bdf" iommu_group "$device/iommu_group"
done
section drivers
for link in /sys/bus/pci/drivers/*/*:*:*.*; do
    [ -e "$link/vendor" ] || continue
    driver=${link%/*}
    printf '%s %s\n' "${link##*/}" "${driver##*/}"
done
section config
for device in /sys/bus/pci/devices/*; do
    [ -e "$device/config" ] || continue
    echo "function ${device##*/}"
    od -Ax -tx1 "$device/config" 2>/dev/null
done
section slots
for slot in /sys/bus/pci/slots/*; do
    [ -e "$slot/address" ] && attribute "${slot##*/}" address "$slot/address"
done
section block
disks=
for block in /sys/class/block/*; do
    [ -e "$block/size" ] || continue
    name=${block##*/}
    real "$name" realpath "$block"
    attribute "$name" dev "$block/dev"
    attribute "$name" size "$block/size"
    [ -e "$block/partition" ] && echo "$name partition 1"
    [ -e "$block/hidden" ] && attribute "$name" hidden "$block/hidden"
    [ -e "$block/dm/name" ] && attribute "$name" dm "$block/dm/name"
    [ -e "$block/loop/backing_file" ] && attribute "$name" backing "$block/loop/backing_file"
    for other in "$block"/holders/*; do [ -e "$other" ] && echo "$name holder ${other##*/}"; done
    for other in "$block"/slaves/*; do [ -e "$other" ] && echo "$name slave ${other##*/}"; done
    case $name in
        dm-* | md* | loop* | ram* | zram* | fd*) ;;
        *) disks="$disks $name" ;;
    esac
done
section nvme
for controller in /sys/class/nvme/*; do
    [ -e "$controller/device" ] || continue
    real "${controller##*/}" realpath "$controller"
    attribute "${controller##*/}" serial "$controller/serial"
done
for controller in /sys/class/nvme-subsystem/*/nvme*; do # with multipath the drive hangs below the subsystem
    [ -e "$controller/serial" ] || continue
    subsystem=${controller%/*}
    echo "${controller##*/} subsystem ${subsystem##*/}"
done
section btrfs
for member in /sys/fs/btrfs/*/devices/*; do [ -e "$member" ] && echo "${member##*/}"; done
section signatures
for name in $disks; do # NAME STATUS, and what was found; status 2: nothing there, or it cannot be read (blkid(8))
    if ! od -N 512 "/dev/$name" >/dev/null 2>&1; then
        echo "$name 1 unreadable"
        continue
    fi
    found=$(blkid -p "/dev/$name" 2>/dev/null)
    status=$?
    [ "$status" -eq 127 ] && found=$(od -An -tx1 -N 131072 "/dev/$name" 2>/dev/null || echo unreadable)
    printf '%s %s ' "$name" "$status"
    echo $found
done
section mounts
whole /proc/self/mountinfo
seen=" $(stat -L -c %i /proc/self/ns/mnt 2>/dev/null) "
stat -L -c '%i %n' /proc/[0-9]*/ns/mnt 2>/dev/null | while read -r inode name; do # what containers have mounted
    case $seen in *" $inode "*) continue ;; esac
    seen="$seen$inode "
    cat "${name%/ns/mnt}/mountinfo" 2>/dev/null
done
section swaps
whole /proc/swaps
section zpool
[ -e /sys/module/zfs ] && { zpool status -LP 2>/dev/null || echo "missing zpool"; }
section net
for interface in /sys/class/net/*; do
    [ -e "$interface/address" ] || continue
    name=${interface##*/}
    real "$name" realpath "$interface"
    attribute "$name" address "$interface/address"
    attribute "$name" flags "$interface/flags"
    attribute "$name" assigned "$interface/addr_assign_type"
    [ -e "$interface/bonding_slave/perm_hwaddr" ] && attribute "$name" permanent "$interface/bonding_slave/perm_hwaddr"
    real "$name" master "$interface/master"
    for other in "$interface"/upper_*; do [ -e "$other" ] && echo "$name upper ${other##*/upper_}"; done
    for other in "$interface"/lower_*; do [ -e "$other" ] && echo "$name lower ${other##*/lower_}"; done
done
section links
ip -d -o link 2>/dev/null || echo "missing ip"
section addresses
ip -o addr 2>/dev/null || echo "missing ip"
section routes
whole /proc/net/route
section routes6
whole /proc/net/ipv6_route
section owners
xenstore-ls -f /libxl/pci 2>/dev/null
section backends
if command -v xenstore-ls >/dev/null 2>&1; then
    # before the first guest there is no such path; that the store answers at all is asked then
    xenstore-ls -f /local/domain/0/backend 2>/dev/null || xenstore-ls /local/domain >/dev/null 2>&1 ||
        echo "missing xenstore"
else
    echo "missing xenstore-ls"
fi
section xen
if [ -e /proc/xen/capabilities ]; then
    xl info 2>/dev/null || echo "missing xl"
fi
section tools
for name in xl xenstore-read setpci lspci od ip blkid; do command -v "$name" >/dev/null 2>&1 && echo "$name"; done
busybox=$(command -v busybox) && ! ldd "$busybox" >/dev/null 2>&1 && echo "busybox $busybox"
section run
for name in /run/maskall/*; do [ -e "$name" ] && echo "${name##*/}"; done
section end
