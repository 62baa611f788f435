"""Which system calls are closed to this process and its children: a classic BPF program, as seccomp wants it.

It closes what no recipe needs and what leads out: sockets, other processes, mounts and namespaces, the kernel's keys
and programs, memory that outlives its process. They fail with EPERM. Once set it cannot be taken back.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import sys
from dataclasses import dataclass
from struct import pack

from dpud.worker import linux

_PR_SET_SECCOMP = 22
_FILTER = 2

# Opcodes of classic BPF, and what a filter may answer.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
# Where the kernel puts the number, the architecture, and the low halves of the arguments.
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24

#: Numbers on x86_64 and on aarch64 (None: not there).
CLOSED: dict[str, tuple[int, int | None]] = {
    # To other machines and to other processes. The channel to the agent is open already.
    "socket": (41, 198),
    "connect": (42, 203),
    "accept": (43, 202),
    "accept4": (288, 242),
    "bind": (49, 200),
    "listen": (50, 201),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    # Memory that would stay when the task is gone.
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    # Calls by a way on which no filter looks.
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # Other views of the file system.
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    # The kernel itself.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "syslog": (103, 116),
    # The machine.
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "vhangup": (153, 58),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
}
# Calls whose arguments decide. Of clone3 no filter can see them: a C library that cannot have it takes clone.
_CLONE, _CLONE3, _SOCKETPAIR, _IOCTL = (56, 220), 435, (53, 199), (16, 29)
#: CLONE_NEW*: time, mount, cgroup, uts, ipc, user, pid, net.
_NAMESPACES = 0x7E020080
_UNIX, _STREAM, _KIND = 1, 1, 0xF
#: Puts characters into a terminal, as if its user had typed them.
_TIOCSTI = 0x5412
#: Numbers from here on are those of another interface of x86_64, with the same calls.
_X32 = 0x40000000


@dataclass(frozen=True, slots=True)
class Machine:
    """A processor: how the kernel names it, and its column in the table."""

    audit: int
    column: int


MACHINES = {"x86_64": Machine(0xC000003E, 0), "aarch64": Machine(0xC00000B7, 1)}


def program(machine: Machine) -> list[bytes]:
    """Return the filter for a processor: one instruction an item."""
    refuse = _do(_RETURN, _REFUSE | errno.EPERM)
    numbers = [number for row in CLOSED.values() if (number := row[machine.column]) is not None]
    code = [
        _do(_LOAD, _ARCHITECTURE),
        _do(_EQUAL, machine.audit, yes=1),
        _do(_RETURN, _KILL),
        _do(_LOAD, _NUMBER),
        *(_do(_AT_LEAST, _X32, no=1), refuse),
        *(_do(_EQUAL, _CLONE3, no=1), _do(_RETURN, _REFUSE | errno.ENOSYS)),
    ]
    for number in numbers:
        code += [_do(_EQUAL, number, no=1), refuse]
    code += _where(_CLONE[machine.column], [_do(_LOAD, _FIRST), _do(_ANY_BIT, _NAMESPACES, no=1), refuse])
    code += _where(_IOCTL[machine.column], [_do(_LOAD, _SECOND), _do(_EQUAL, _TIOCSTI, no=1), refuse])
    # Pairs of connected sockets lead nowhere; those for datagrams could be sent to any address.
    pair = [_do(_LOAD, _FIRST), _do(_EQUAL, _UNIX, yes=1), refuse]
    pair += [_do(_LOAD, _SECOND), _do(_AND, _KIND), _do(_EQUAL, _STREAM, yes=1), refuse]
    code += _where(_SOCKETPAIR[machine.column], pair)
    return [*code, _do(_RETURN, _ALLOW)]


def supported() -> bool:
    """Return whether there is a filter for this system."""
    # A 32-bit interpreter speaks another interface.
    known = sys.platform == "linux" and platform.machine() in MACHINES and sys.maxsize > 1 << 32
    # An address that is none: a kernel with filters says so, one without says that the option is none.
    return known and not linux.prctl(_PR_SET_SECCOMP, _FILTER, 0) and linux.last_error() == errno.EFAULT


def enforce() -> bool:
    """Close the calls, for this thread and all that it starts; return whether the kernel does that here."""
    if not supported():
        return False
    code = program(MACHINES[platform.machine()])
    content = ctypes.create_string_buffer(b"".join(code))
    header = ctypes.create_string_buffer(pack("HxxxxxxQ", len(code), ctypes.addressof(content)))
    return linux.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.addressof(header))


def _where(number: int, code: list[bytes]) -> list[bytes]:
    """Return what is done for one call, which is only reached for that call."""
    return [_do(_EQUAL, number, no=len(code) + 1), *code, _do(_RETURN, _ALLOW)]


def _do(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """Return an instruction; `yes` and `no` are how many to leap over."""
    return pack("HBBI", code, yes, no, value)
