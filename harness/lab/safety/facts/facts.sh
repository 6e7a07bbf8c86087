# Everything the safety gate has to know of a host, in sections; reads only. $1: separator nobody can foresee.
# $2: `stable` leaves out what changes without anybody's doing, so that two readings of a host at rest are equal.
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
# The device node of a name of /sys/class/block: `!` stands for a slash there.
node() {
    case $1 in
        *!*) node=/dev/${1%%!*}/${1#*!} ;;
        *) node=/dev/$1 ;;
    esac
}
# Five samples of the block device $1 of $2 sectors; zeros are two lines each, a row and `*`.
samples() {
    bytes=$(($2 * 512)) tail=0
    [ "$bytes" -gt 262144 ] && tail=$((bytes - 262144))
    {
        od -An -tx1 -N 262144 "$1"
        for quarter in 1 2 3; do od -An -tx1 -j $((bytes / 4 * quarter)) -N 65536 "$1"; done
        od -An -tx1 -j $tail -N 262144 "$1"
    } 2>/dev/null | head -n 11
}
separator=$1 stable=$2
PATH=$PATH:/usr/sbin:/sbin
LC_ALL=C
export LC_ALL PATH
section program
echo "version 6"
echo "uid $(id -u)"
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
    real "$bdf" physfn "$device/physfn"
    real "$bdf" iommu_group "$device/iommu_group"
done
section drivers
for link in /sys/bus/pci/drivers/*/*:*:*.*; do
    [ -e "$link/vendor" ] || continue
    driver=${link%/*}
    printf '%s %s\n' "${link##*/}" "${driver##*/}"
done
if [ "$stable" != stable ]; then
    section config
    for device in /sys/bus/pci/devices/*; do
        [ -e "$device/config" ] || continue
        echo "function ${device##*/}"
        od -Ax -tx1 "$device/config" 2>/dev/null
    done
fi
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
    [ -e "$block/removable" ] && attribute "$name" removable "$block/removable"
    [ -e "$block/partition" ] && echo "$name partition 1"
    [ -e "$block/hidden" ] && attribute "$name" hidden "$block/hidden"
    [ -e "$block/dm/name" ] && attribute "$name" dm "$block/dm/name"
    [ -e "$block/loop/backing_file" ] && attribute "$name" backing "$block/loop/backing_file"
    [ -e "$block/backing_dev" ] && attribute "$name" backing "$block/backing_dev" # zram
    [ -e "$block/netif" ] && attribute "$name" netif "$block/netif" # ATA over Ethernet
    [ -e "/sys/bus/rbd/devices/${name#rbd}/client_addr" ] &&
        attribute "$name" client "/sys/bus/rbd/devices/${name#rbd}/client_addr"
    for other in "$block"/holders/*; do [ -e "$other" ] && echo "$name holder ${other##*/}"; done
    for other in "$block"/slaves/*; do [ -e "$other" ] && echo "$name slave ${other##*/}"; done
    case $name in
        dm-* | md* | loop* | ram* | zram* | fd*) ;;
        *) disks="$disks $name" ;;
    esac
done
section devlinks # other names of block devices: links, and nodes below a folder of /dev with their number
{
    find /dev -path /dev/shm -prune -o -type l -exec ls -l {} + 2>/dev/null | sed -n 's|^.* \(/dev/[^ ]* -> .*\)$|\1|p'
    find /dev -path /dev/shm -prune -o -path '/dev/*/*' -type b -exec stat -c '%n node %t:%T' {} + 2>/dev/null
} | sort
section nvme
for controller in /sys/class/nvme/*; do
    [ -e "$controller/device" ] || [ -e "$controller/transport" ] || continue
    name=${controller##*/}
    real "$name" realpath "$controller"
    attribute "$name" serial "$controller/serial"
    [ -e "$controller/transport" ] && attribute "$name" transport "$controller/transport"
    [ -e "$controller/address" ] && attribute "$name" address "$controller/address"
done
for controller in /sys/class/nvme-subsystem/*/nvme*; do # with multipath the drive hangs below the subsystem
    [ -e "$controller/serial" ] || continue
    subsystem=${controller%/*}
    echo "${controller##*/} subsystem ${subsystem##*/}"
done
section iscsi
for connection in /sys/class/iscsi_connection/*; do
    [ -e "$connection/persistent_address" ] &&
        attribute "${connection##*/}" address "$connection/persistent_address"
    [ -e "$connection/address" ] && attribute "${connection##*/}" peer "$connection/address"
done
for host in /sys/class/iscsi_host/*; do [ -e "$host/netdev" ] && attribute "${host##*/}" netdev "$host/netdev"; done
section btrfs
for member in /sys/fs/btrfs/*/devices/*; do [ -e "$member" ] && echo "${member##*/}"; done
# An open that waits closes the tray of a CD drive (cdrom_open); CDROM_DRIVE_STATUS, 0x5326, tells without: 4 is a disc.
tried=$(if [ -z "$disks" ]; then
    :
elif command -v perl >/dev/null 2>&1; then
    perl -MFcntl -MErrno -e 'for my $name (@ARGV) {
        (my $node = $name) =~ s|!|/|g;
        if (!sysopen(my $file, "/dev/$node", O_RDONLY | O_EXCL | O_NONBLOCK)) {
            print "$name ", $!{EBUSY} ? "busy" : "unknown $!", "\n";
        } elsif ($name =~ /^sr/ && (ioctl($file, 0x5326, 0x7fffffff) || 0) != 4) { print "$name unknown No medium found\n" }
        else { print "$name free\n" }
    }' $disks
else
    python=$(command -v python3 || command -v python) && "$python" -c 'import errno, fcntl, os, sys
def loaded(drive):
    try:
        return fcntl.ioctl(drive, 0x5326, 0x7FFFFFFF) == 4
    except (IOError, OSError):
        return False
for name in sys.argv[1:]:
    try:
        file = os.open("/dev/" + name.replace("!", "/"), os.O_RDONLY | os.O_EXCL | os.O_NONBLOCK)
        print(name + (" unknown No medium found" if name.startswith("sr") and not loaded(file) else " free"))
        os.close(file)
    except OSError as error:
        print(name + (" busy" if error.errno == errno.EBUSY else " unknown " + error.strerror))' $disks ||
        echo "missing perl and python"
fi)
section signatures
for name in $disks; do # NAME STATUS, and what was found; status 2: nothing there, or it cannot be read (blkid(8))
    node "$name"
    case $name in
        sr*) case $tried in *"$name free"* | *"$name busy"*) ;; *) echo "$name 1 unreadable" && continue ;; esac ;;
    esac
    if ! od -N 512 "$node" >/dev/null 2>&1; then
        echo "$name 1 unreadable"
        continue
    fi
    found=$(blkid -p "$node" 2>/dev/null)
    status=$?
    size=0
    { read -r size <"/sys/class/block/$name/size"; } 2>/dev/null
    case $status in
        2 | 127) [ -z "$found" ] && [ ! -e "/sys/class/block/$name/partition" ] && found=$(samples "$node" "$size") ;;
    esac
    printf '%s %s ' "$name" "$status"
    set -f
    echo $found
    set +f
done
section exclusive # who has a disk for himself (mounted, below dm, md, drbd, a guest...) lets nobody else have it so
[ -z "$tried" ] || printf '%s\n' "$tried"
section chars # character devices of PCI functions
for char in /sys/dev/char/*; do
    cd -P "$char" 2>/dev/null || continue
    case $PWD in /sys/devices/*/pci[0-9]* | /sys/devices/pci[0-9]*) printf '%s realpath %s\n' "${char##*/}" "$PWD" ;; esac
    cd /
done
section users # KIND NUMBER PROGRAM: who has a device open; terminals, null, zero and the like are left out
timeout -s KILL 20 sh -c 'command -v find >/dev/null && {
    find -L /proc/[0-9]*/fd -maxdepth 1 \( -type b -o -type c \) -exec stat -L -c "%F %t:%T %n" {} +
    echo ended # a file whose server is gone holds find up
}' 2>/dev/null | {
    ended=
    while read -r kind _ _ number place; do
        case $number in 1:* | 5:* | 88:* | 89:* | 8[a-f]:*) [ "$kind" = character ] && continue ;; esac
        [ "$kind" = ended ] && ended=yes && continue
        place=${place#*/proc/}
        program=
        { read -r program <"/proc/${place%%/*}/comm"; } 2>/dev/null
        printf '%s %s %s\n' "$kind" "$number" "${program:-unknown}"
    done
    [ "$ended" ] || echo "missing find, or it did not end"
} | sort -u
section majors
whole /proc/devices
section modules # DRIVER MODULE: its own, those it stands on, and all that stand on it
above() {
    for holder in "/sys/module/$1/holders"/*; do
        [ -e "$holder" ] && printf '%s %s\n' "$2" "${holder##*/}" && above "${holder##*/}" "$2"
    done
}
for link in /sys/bus/pci/drivers/*/module; do
    cd -P "$link" 2>/dev/null || continue
    module=${PWD##*/} driver=${link%/module}
    printf '%s %s\n' "${driver##*/}" "$module"
    for holder in /sys/module/*/holders/"$module"; do
        [ -e "$holder" ] || continue
        lower=${holder%/holders/*}
        printf '%s %s\n' "${driver##*/}" "${lower##*/}"
    done
    above "$module" "${driver##*/}"
    cd /
done | sort -u
section attached # what the kernel itself serves of USB: a device to another machine, what is connected by Bluetooth
for device in /sys/bus/usb/drivers/usbip-host/*-*; do [ -e "$device/busnum" ] && real usbip realpath "$device"; done
for device in /sys/class/bluetooth/hci*:*; do [ -e "$device" ] && real bluetooth realpath "$device"; done
section engines # what the kernel itself works with: `dma PLACE` of a channel, `p2p PLACE`, `crypto DRIVER ALGORITHM`
for channel in /sys/class/dma/*; do
    { read -r value <"$channel/in_use"; } 2>/dev/null || continue
    case $value in '' | 0) ;; *) cd -P "$channel" 2>/dev/null && printf 'dma %s\n' "$PWD" && cd / ;; esac
done
for memory in /sys/bus/pci/devices/*/p2pmem; do
    { read -r size <"$memory/size" && read -r value <"$memory/available"; } 2>/dev/null || continue
    [ "$size" != "$value" ] && cd -P "${memory%/p2pmem}" 2>/dev/null && printf 'p2p %s\n' "$PWD" && cd /
done
while read -r key _ value; do
    case $key in
        driver) algorithm=$value ;;
        module) module=$value ;;
        refcnt) # one is its own; an algorithm may be in a module below or above that of the driver
            [ "$value" -gt 1 ] 2>/dev/null && [ "$module" != kernel ] || continue
            for link in /sys/bus/pci/drivers/*/module; do
                cd -P "$link" 2>/dev/null || continue
                name=${PWD##*/} driver=${link%/module}
                if [ "$name" = "$module" ] || [ -e "/sys/module/$name/holders/$module" ] ||
                    [ -e "/sys/module/$module/holders/$name" ]; then
                    printf 'crypto %s %s\n' "${driver##*/}" "$algorithm"
                fi
                cd /
            done
            ;;
    esac
done 2>/dev/null </proc/crypto
section mapped # memory of PCI functions that programs have mapped, with or without a driver
found=$(sed -n 's|^.* \(/[^ ]*/pci[0-9][^ ]*/resource[0-9][^ ]*\)$|\1|p' /proc/[0-9]*/maps 2>/dev/null)
[ "$found" ] && printf '%s\n' "$found" | sort -u
section exported # what the kernel serves to others, and has neither open nor for itself: nvmet, LIO, SCST, a USB gadget
for path in /sys/kernel/config/nvmet/subsystems/*/namespaces/*/device_path \
    /sys/kernel/config/nvmet/subsystems/*/passthru/device_path \
    /sys/kernel/scst_tgt/devices/*/filename \
    /sys/kernel/config/target/core/fileio_*/*/udev_path \
    /sys/kernel/config/target/core/pscsi_*/*/udev_path \
    /sys/kernel/config/usb_gadget/*/functions/mass_storage.*/lun.*/file; do
    [ -e "$path" ] && cat "$path" 2>/dev/null
done
for device in /sys/kernel/scst_tgt/devices/*/scsi_device; do # passed through, a tape or its robot too
    cd -P "$device" 2>/dev/null && printf '%s\n' "$PWD" && cd /
done
for disk in /sys/class/rnbd-server/ctl/devices/*/block_dev; do
    cd -P "$disk" 2>/dev/null && printf '/dev/%s\n' "${PWD##*/}" && cd /
done
for disk in /sys/kernel/config/cluster/*/heartbeat/*/dev; do # OCFS2 resets a machine whose heartbeat fails
    value=
    { read -r value <"$disk"; } 2>/dev/null && [ "$value" ] && printf '/dev/%s\n' "$value"
done
section mounts
whole /proc/self/mountinfo
seen=" $(stat -L -c %i /proc/self/ns/mnt 2>/dev/null) "
others=$(stat -L -c '%i %n' /proc/[0-9]*/ns/mnt 2>/dev/null | while read -r inode name; do # what containers have mounted
    case $seen in *" $inode "*) continue ;; esac
    seen="$seen$inode "
    echo "${name%/ns/mnt}"
done)
for other in $others; do cat "$other/mountinfo" 2>/dev/null; done
section layouts # LAYOUT SOURCE: pNFS, by which a mount stores past its server, on other servers or on a disk of here
if [ -e /sys/module/nfsv4 ]; then
    for other in /proc/self $others; do
        while read -r key value _; do
            case $key$value in
                device*) source=$value ;;
                nfsv4:*pnfs=LAYOUT_*) value=${value#*pnfs=} && echo "${value%%,*} $source" ;;
            esac
        done 2>/dev/null <"$other/mountstats"
    done | sort -u
fi
section swaps
if [ -r /proc/swaps ]; then
    while read -r name kind _; do echo "$name $kind"; done </proc/swaps # how much is in use changes all the time
else
    echo "missing /proc/swaps"
fi
section zpool
[ -e /sys/module/zfs ] && { { zpool status -LP 2>/dev/null || echo "missing zpool"; } | grep -e /dev/ -e '^missing'; }
section tty
for tty in /sys/class/tty/*; do
    cd -P "$tty" 2>/dev/null || continue
    case $PWD in /sys/devices/virtual/*) ;; *) printf '%s realpath %s\n' "${tty##*/}" "$PWD" ;; esac
    cd /
done
section display
for display in /sys/class/graphics/fb*; do [ -e "$display" ] && real "${display##*/}" realpath "$display"; done
section netconsole
for target in /sys/kernel/config/netconsole/*; do
    value=
    { read -r value <"$target/enabled"; } 2>/dev/null
    [ -e "$target/dev_name" ] && [ "$value" != 0 ] && attribute "${target##*/}" dev "$target/dev_name"
done
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
    real "$name" phydev "$interface/phydev" # its transceiver, which may be behind a function of its own
    for other in "$interface"/upper_*; do [ -e "$other" ] && echo "$name upper ${other##*/upper_}"; done
    for other in "$interface"/lower_*; do [ -e "$other" ] && echo "$name lower ${other##*/lower_}"; done
done
if [ -e /sys/class/net/ovs-system ]; then # of which bridge a port is, Open vSwitch alone knows: for the kernel all are one
    bridges=$(ovs-vsctl --timeout=5 list-br 2>/dev/null)
    for bridge in $bridges; do
        for port in $(ovs-vsctl --timeout=5 list-ifaces "$bridge" 2>/dev/null); do echo "$port bridge $bridge"; done
        parent=$(ovs-vsctl --timeout=5 br-to-parent "$bridge" 2>/dev/null) # that of a VLAN has one
        [ "${parent:-$bridge}" = "$bridge" ] || echo "$bridge bridge $parent"
    done
    port=
    [ -z "$bridges" ] || for word in $(ovs-vsctl --timeout=5 --bare --columns=name,options find interface type=patch); do
        case $word in peer=*) echo "$port lower ${word#peer=}" ;; *) port=$word ;; esac
    done 2>/dev/null
fi
section links
{ ip -d -o link 2>/dev/null || echo "missing ip"; } | sed 's/[a-z_]*_timer *[0-9.]*//g'
section namespaces # interfaces of other network namespaces: built on another by its number, or of a device
seen=' ' own=
found=$(stat -L -c '%i %n' /proc/self/ns/net /proc/[0-9]*/ns/net /run/netns/* /run/docker/netns/* 2>/dev/null |
    while read -r inode name; do
        case $seen in *" $inode "*) continue ;; esac
        seen="$seen$inode "
        if [ -z "$own" ]; then # the first is ours
            own=$inode
        elif command -v nsenter >/dev/null 2>&1; then
            nsenter --net="$name" ip -d -o link 2>/dev/null </dev/null
        else
            echo "missing nsenter"
            break
        fi
    done)
[ "$found" ] && printf '%s\n' "$found" | sed -n 's/[a-z_]*_timer *[0-9.]*//g; /@if[0-9]\| parentdev \|^missing/p' | sort
section frames # PROTOCOL INDEX of packet sockets; IP, ARP, LLDP, EAPOL and what takes any come and go on idle cards
found=$(while read -r _ _ _ protocol index _; do
    case $protocol in Proto | 0000 | 0003 | 0004 | 0800 | 0806 | 86dd | 88cc | 888e) ;; *) echo "$protocol $index" ;; esac
done 2>/dev/null </proc/net/packet)
[ "$found" ] && printf '%s\n' "$found" | sort -u
while read -r protocol name handler _; do # of the kernel: TIPC, FCoE, batman; sockets of programs are told above
    case $handler in '' | '['* | Function | packet_rcv* | tpacket_rcv*) ;; *) echo "$protocol $name" ;; esac
done 2>/dev/null </proc/net/ptype
section rdma # NAME realpath PLACE, NAME netdev INTERFACE, NAME qp WHO: a program, or a module of the kernel in []
found=
for device in /sys/class/infiniband/*; do [ -e "$device" ] && real "${device##*/}" realpath "$device" && found=1; done
if [ "$found" ]; then
    if links=$(rdma link 2>/dev/null) && queues=$(rdma resource show qp 2>/dev/null); then
        printf '%s\n' "$links" | sed -n 's|^link \([^/ ]*\)/.* netdev \([^ ]*\).*|\1 netdev \2|p'
        printf '%s\n' "$queues" | sed -n 's|^link \([^/ ]*\)/.* comm \([^ ]*\).*|\1 qp \2|p' | sort -u
    else
        echo "missing rdma"
    fi
fi
section redirects # INTERFACE tc OTHER, `* nft OTHER`: what arrives at or leaves the one is sent out by the other
builtin= release= # NixOS and Guix have their modules elsewhere; without a list of what is built in, anything may be
{ read -r release </proc/sys/kernel/osrelease; } 2>/dev/null
for path in /lib/modules /run/booted-system/kernel*/lib/modules; do
    [ -r "$path/$release/modules.builtin" ] && builtin=$path/$release/modules.builtin
done
at_work() { # what is built in has no count
    if { read -r value <"/sys/module/$1/refcnt"; } 2>/dev/null; then [ "$value" != 0 ]; return; fi
    [ -z "$builtin" ] || grep -qs "/$1\.ko" "$builtin"
}
if at_work act_mirred; then
    command -v tc >/dev/null 2>&1 || echo "missing tc"
    for interface in /sys/class/net/*; do
        name=${interface##*/}
        { # filters are the root's, of clsact, or of a queueing discipline or class below the root
            printf '%s\n' '' ingress egress
            { tc qdisc show dev "$name" && tc class show dev "$name"; } 2>/dev/null |
                sed -n '/^[a-z]* [^ ]* 0: /!s/^[a-z]* [^ ]* \([0-9a-f]*:[0-9a-f]*\) .*/parent \1/p'
        } | while read -r parent; do tc filter show dev "$name" $parent 2>/dev/null </dev/null; done |
            sed -n "s|.* mirred ([A-Za-z]* [A-Za-z]* to device \([^ )]*\)).*|$name tc \1|p"
    done | sort -u
fi
if at_work nft_fwd_netdev || at_work nft_dup_netdev; then
    { nft list ruleset 2>/dev/null || echo "missing nft"; } | grep -o -e '^missing .*' -e '\(fwd\|dup\) to .*' |
        grep -o -e '^missing .*' -e '"[^"]*"' | sed 's|^"\(.*\)"$|* nft \1|' | sort -u
fi
section peers # NAME ADDRESS: with whom a tunnel of WireGuard speaks, and DRBD, OCFS2 and GFS2
for node in /sys/kernel/config/cluster/*/node/*; do
    { read -r own <"$node/local" && read -r value <"$node/ipv4_address"; } 2>/dev/null || continue
    [ "$own" = 0 ] && printf 'ocfs2 %s\n' "$value"
done
for node in /sys/kernel/config/dlm/cluster/comms/*; do # `AF_INET ADDRESS` for each way (comm_addr_list_show, fs/dlm)
    { read -r own <"$node/local"; } 2>/dev/null && [ "$own" = 0 ] || continue
    while read -r _ value; do printf 'gfs2 %s\n' "$value"; done 2>/dev/null <"$node/addr_list"
done
wg show all endpoints 2>/dev/null | while read -r name _ place; do
    case $place in *:*) printf '%s %s\n' "$name" "${place%:*}" ;; esac
done | tr -d '[]' | sort -u
remote=
[ -e /proc/drbd ] && drbdsetup show 2>/dev/null | while read -r line; do # without its module it would load it
    case $line in *_this_host*) remote= ;; *_remote_host*) remote=1 ;; esac
    case $remote$line in 1*ipv[46]\ *) line=${line#*ipv[46] } && printf 'drbd %s\n' "${line%:*}" ;; esac
done | tr -d '[]' | sort -u
section ipsec # what is sent to others through a tunnel that is no interface
known= # asking loads xfrm_user; where it is, it has a socket of its own
while read -r _ protocol _; do [ "$protocol" = 6 ] && known=1; done 2>/dev/null </proc/net/netlink
[ -z "$known" ] || ip -o xfrm policy list dir out 2>/dev/null || echo "missing ip xfrm"
section addresses
{ ip -o addr 2>/dev/null || echo "missing ip"; } | sed 's/ *valid_lft .*//'
section routes
whole /proc/net/route
section routes6
if [ -r /proc/net/ipv6_route ]; then # how often a route was used changes all the time
    while read -r to plen from slen hop metric _ _ flags name; do
        echo "$to $plen $from $slen $hop $metric 0 0 $flags $name"
    done </proc/net/ipv6_route
elif [ -e /proc/net/if_inet6 ]; then
    echo "missing /proc/net/ipv6_route"
fi
section tables # all routes of all tables, and all next hops, of which /proc/net/route shows but the first
for family in 4 6; do ip "-$family" -o route show table all 2>/dev/null || echo "missing ip route"; done |
    sed 's/ expires -*[0-9]*sec//g'
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
section meant # what guests are to have whether they run or not: `hostdev=ADDRESS FILE`, `disk=PATH FILE`, `DRIVER.ids=ID FILE`
function='[0-9a-fA-F:]\{2,\}:[0-9a-fA-F]\{1,2\}\.[0-7*]'
options='^[[:blank:]]*options[[:blank:]]\{1,\}' # of modprobe.d(5)
for file in /etc/xen/* /etc/xen/auto/* /etc/xen/vm/* /etc/libvirt/libxl/*.xml /var/xapi/state.db \
    /var/lib/qubes/qubes.xml $(grep -ls 'pciback\|vfio.pci\|pci.stub' /etc/modprobe.d/*.conf); do
    [ -f "$file" ] || continue
    case $file in *~ | *.bak | *.old | *.orig | *.save | *.dpkg-* | *.rpm*) continue ;; esac # of no guest any more
    case $file in # each an address behind one letter, or a path
        *.db) grep -o "'pci'%\.'[^']*'" "$file" | grep -o "/$function" ;;
        */modprobe.d/*)
            sed -n "s/$options\(xen[-_]\)\{0,1\}pciback[[:blank:]].*hide=\([^[:blank:]]*\).*/\2/p" "$file" | grep -o "[(]$function"
            sed -n "s/$options\(vfio[-_]pci\|pci[-_]stub\)[[:blank:]]\(.*[[:blank:]]\)\{0,1\}\(ids=[^[:blank:]]*\).*/\1.\3/p" "$file"
            ;;
        */qubes.xml) sed -n 's|.*<device .*id="\(..\)_\(..\..\)".*|/0000:\1:\2|p' "$file" ;;
        *.xml)
            address="domain='0x\(.*\)' bus='0x\(.*\)' slot='0x\(.*\)' function='0x\(.\)'" # not the guest's own
            sed -n "/<source>/,/<\/source>/s/.*<address .*$address.*/.\1:\2:\3.\4/p" "$file"
            grep -o "[/]dev/[^']*" "$file"
            ;;
        *) grep -v '^[[:blank:]]*#' "$file" | grep -o -e "['\"=]$function" -e "[/]dev/[^]'\", ]*" ;;
    esac | while read -r found; do
        case $found in
            [/]dev/*) printf 'disk=%s %s\n' "$found" "$file" ;;
            *.ids=*) printf '%s %s\n' "$found" "$file" ;;
            *) printf 'hostdev=%s %s\n' "${found#?}" "$file" ;;
        esac
    done
done 2>/dev/null | sort -u
section xen
if [ -e /proc/xen/capabilities ]; then
    { xl info 2>/dev/null || echo "missing xl"; } |
        while read -r line; do # free memory and the clock's speed change all the time
            case $line in *_memory* | free_* | cpu_mhz* | outstanding_*) ;; *) printf '%s\n' "$line" ;; esac
        done
fi
[ "$stable" = stable ] && return 0 2>/dev/null
section tools
for name in xl xenstore-read setpci lspci od ip blkid; do command -v "$name" >/dev/null 2>&1 && echo "$name"; done
busybox=$(command -v busybox) && ! ldd "$busybox" >/dev/null 2>&1 && echo "busybox $busybox"
section run
for name in /run/maskall/*; do [ -e "$name" ] && echo "${name##*/}"; done
section end
