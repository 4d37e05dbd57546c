"""Shared by vae.py and unet.py: two single-thread processes that split each batch
(on a CPU more than twice as fast as two threads inside one process), checkpoints."""
import os, sys, time
import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def launch(worker, args):
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", str(args.port))
    if args.procs == 1:
        worker(0, args)
    else:
        mp.spawn(worker, (args,), nprocs=args.procs)


def join(rank, args):
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if args.procs > 1:
        dist.init_process_group("gloo", rank=rank, world_size=args.procs)


class Flat:
    """All parameters of the modules in one vector, all gradients in another."""

    def __init__(self, modules):
        self.params = [p for m in modules for p in m.parameters() if p.requires_grad]
        n = sum(p.numel() for p in self.params)
        self.data, self.grad, at = torch.zeros(n), torch.zeros(n), 0
        for p in self.params:
            k = p.numel()
            # keep each parameter's own memory layout (channels_last matters for speed)
            cl = p.dim() == 4 and p.is_contiguous(memory_format=torch.channels_last) and not p.is_contiguous()
            shape = [p.shape[0], p.shape[2], p.shape[3], p.shape[1]] if cl else list(p.shape)

            def view(vec):
                v = vec[at:at + k].view(shape)
                return v.permute(0, 3, 1, 2) if cl else v
            view(self.data).copy_(p.data)
            p.data, p.grad = view(self.data), view(self.grad)
            at += k
        self.vector = torch.nn.Parameter(self.data)
        self.vector.grad = self.grad

    def reduce(self, procs, clip):
        """Mean of the processes' gradients, clipped to the norm."""
        if procs > 1:
            dist.all_reduce(self.grad)
            self.grad /= procs
        norm = self.grad.norm()
        if norm > clip:
            self.grad *= clip / norm
        return float(norm)


def save(path, obj):
    torch.save(obj, path + ".part")
    os.replace(path + ".part", path)


def say(*words):
    print(time.strftime("%H:%M:%S"), *words, flush=True)
