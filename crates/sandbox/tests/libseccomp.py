"""Builds filters with libseccomp, for comparison. Standard input: one JSON profile a line (OCI's, with one architecture
list). Standard output: for each the BPF program in hexadecimal, or `error` and why libseccomp refuses it."""

import ctypes
import json
import os
import sys

lib = ctypes.CDLL("libseccomp.so.2")
lib.seccomp_init.restype = ctypes.c_void_p
lib.seccomp_init.argtypes = [ctypes.c_uint32]


class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


lib.seccomp_rule_add_array.argtypes = [
    ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Compare)]
for function in ("seccomp_release", "seccomp_export_bpf", "seccomp_arch_add", "seccomp_arch_remove"):
    getattr(lib, function).argtypes = [ctypes.c_void_p] + ([] if function == "seccomp_release" else [ctypes.c_uint32])

ACTIONS = {"KILL_PROCESS": 0x80000000, "KILL": 0, "KILL_THREAD": 0, "TRAP": 0x30000, "ERRNO": 0x50000, "TRACE": 0x7FF00000,
           "LOG": 0x7FFC0000, "ALLOW": 0x7FFF0000, "NOTIFY": 0x7FC00000}
OPERATORS = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}
NATIVE = 0xC000003E
ARCHITECTURES = {"X86_64": NATIVE, "X86": 0x40000003, "X32": 0x4000003E, "AARCH64": 0xC00000B7, "ARM": 0x40000028,
                 "RISCV64": 0xC00000F3, "PPC64LE": 0xC0000015, "S390X": 0x80000016}


def action(entry, name, errno):
    value = ACTIONS[entry[name].removeprefix("SCMP_ACT_")]
    return value | entry.get(errno, 1) if value in (0x50000, 0x7FF00000) else value


def conditions(entry):
    """As runc: several for one argument are rules of their own."""
    made = [Compare(a["index"], OPERATORS[a["op"].removeprefix("SCMP_CMP_")], a["value"], a.get("valueTwo", 0))
            for a in entry.get("args", [])]
    repeated = len({c.arg for c in made}) < len(made)
    return [[c] for c in made] if repeated else [made]


def build(profile):
    default = action(profile, "defaultAction", "defaultErrnoRet")
    context = lib.seccomp_init(default)
    try:
        for name in profile["architectures"]:
            lib.seccomp_arch_add(context, ARCHITECTURES[name.removeprefix("SCMP_ARCH_")])
        if "SCMP_ARCH_X86_64" not in profile["architectures"]:
            lib.seccomp_arch_remove(context, NATIVE)
        for entry in profile["syscalls"]:
            verdict = action(entry, "action", "errnoRet")
            for name in entry["names"] if verdict != default else []:
                number = lib.seccomp_syscall_resolve_name(name.encode())
                for group in conditions(entry):
                    array = (Compare * len(group))(*group)
                    result = lib.seccomp_rule_add_array(context, verdict, number, len(group), array)
                    if result != 0:
                        return f"error {name} {result}"
        return export(context)
    finally:
        lib.seccomp_release(context)


def export(context):
    descriptor = os.memfd_create("bpf")
    try:
        result = lib.seccomp_export_bpf(context, descriptor)
        return f"error export {result}" if result else os.pread(descriptor, 1 << 20, 0).hex()
    finally:
        os.close(descriptor)


for line in sys.stdin:
    print(build(json.loads(line)), flush=True)
