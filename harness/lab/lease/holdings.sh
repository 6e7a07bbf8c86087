# What a run could leave behind on a host, in sections; reads only. $1: separator nobody can foresee.
section() { printf '\n%s %s\n' "$separator" "$1"; }
separator=$1
section boot_id
read -r boot </proc/sys/kernel/random/boot_id && echo "$boot"
section domains
xl list 2>/dev/null
section assignable
xl pci-assignable-list 2>/dev/null
section owners
xenstore-ls -f /libxl/pci 2>/dev/null
section backends
xenstore-ls -f /local/domain/0/backend 2>/dev/null
section mounts
cat /proc/self/mounts
section interrupts
cat /proc/interrupts
section processes
# those of Xen's side, with their command line: it says whose domain they serve
for directory in /proc/[0-9]*; do
    read -r name <"$directory/comm" || continue
    case $name in
    qemu-* | xl | xenconsole | libxl-save-help* | xen-*-agent)
        echo "${directory#/proc/} $name $(tr '\0\n' '  ' <"$directory/cmdline")" ;;
    esac
done 2>/dev/null
section domids
cat /run/maskall/*.domids 2>/dev/null
section irqs
xl debug-keys i >/dev/null 2>&1 && xl dmesg
section end
