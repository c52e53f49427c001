// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Run by host::pass over frames that user space found not to be ours (BPF_PROG_TEST_RUN with live frames): the kernel
// goes on as if the driver had received them and an XDP program had let them pass.

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int lvx_pass(struct xdp_md *context)
{
	(void)context;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Apache-2.0 OR MIT";
