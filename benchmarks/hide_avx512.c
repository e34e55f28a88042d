/* Makes a CPU look like one with AVX2 at most, to every program: Linux, Intel since Ivy Bridge, AMD since Zen 5.

       cc -O1 -shared -fPIC -o hide_avx512.so benchmarks/hide_avx512.c
       LD_PRELOAD=$PWD/hide_avx512.so python -m benchmarks.inference --precisions fp32

   PyTorch, oneDNN and MKL have variables for that; onnxruntime has none. All of them ask CPUID, so the kernel is told
   to refuse it (arch_prctl(2), "CPUID faulting"), and what it answers is given here, without AVX-512, AVX-VNNI, AMX. */

#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define BIT(number) (1u << (number))

static struct sigaction before;

static void answer(unsigned leaf, unsigned part, unsigned *a, unsigned *b, unsigned *c, unsigned *d) {
    syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1);
    __cpuid_count(leaf, part, *a, *b, *c, *d);
    syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0);
    if (leaf == 7 && part == 0) {
        *b &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31)); /* F DQ IFMA ... VL */
        *c &= ~(BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14));                  /* VBMI VBMI2 VNNI BITALG VPOPCNTDQ */
        *d &= ~(BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25));        /* AVX512-FP16, AMX and others */
    } else if (leaf == 7 && part == 1) {
        *a &= ~(BIT(4) | BIT(5) | BIT(21) | BIT(23)); /* AVX-VNNI, AVX512-BF16, AMX-FP16, AVX-IFMA */
        *d = 0;                                       /* AVX-VNNI-INT8 and others, AVX10 */
    } else if (leaf == 0x1d || leaf == 0x1e || leaf == 0x24) { /* AMX's tiles, AVX10 */
        *a = *b = *c = *d = 0;
    }
}

static void on_fault(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *code = (const uint8_t *)registers[REG_RIP];
    unsigned a, b, c, d;
    (void)number, (void)info;
    if (code[0] != 0x0f || code[1] != 0xa2) { /* not CPUID: it happens again, and is handled as without us */
        sigaction(SIGSEGV, &before, NULL);
        return;
    }
    answer((unsigned)registers[REG_RAX], (unsigned)registers[REG_RCX], &a, &b, &c, &d);
    registers[REG_RAX] = a, registers[REG_RBX] = b, registers[REG_RCX] = c, registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void begin(void) {
    static const char text[] = "hide_avx512: this CPU, or its hypervisor, can't refuse CPUID\n";
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &action, &before);
    if (syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0)) {
        if (write(STDERR_FILENO, text, sizeof text - 1) < 0) abort();
        _exit(1);
    }
}
