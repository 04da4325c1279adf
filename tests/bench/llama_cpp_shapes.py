#!/usr/bin/env python3
"""Writes a GGUF file with random weights in the shapes of a mixture-of-experts model, to measure llama.cpp beside Sluice.

    llama_cpp_shapes.py OUT.gguf MODEL LAYERS

MODEL: gpt-oss-20b (experts in MXFP4, the rest in Q8_0, as it is published), deepseek-v2-lite, glm-4.7-flash, qwen3.6-35b-a3b
(Q4_0, output in Q6_K, as llama-quantize chooses). The file is written in these types directly, so that it never takes the size
of its floats. Weights have the deviation 1/sqrt(inputs); the vocabulary is made up, in the model's size. random_container.cpp
makes the same shapes for Sluice. Needs python3-numpy and python3-gguf.
"""
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

rng = np.random.default_rng(1)
noise = rng.integers(0, 256, 1 << 26, dtype=np.uint8)
BLOCKS = {T.Q4_0: (32, 18), T.Q8_0: (32, 34), T.Q6_K: (256, 210), T.MXFP4: (32, 17)}


def random_blocks(kind, shape):
    """Bytes [rows, bytes of a row] of random codes under scales that give the deviation 1/sqrt(inputs)."""
    weights, size = BLOCKS[kind]
    count = int(np.prod(shape)) // weights
    blocks = np.resize(noise[int(rng.integers(0, 4096)):], count * size).reshape(count, size).copy()
    deviation = 1 / np.sqrt(shape[-1])
    scale = lambda unit: np.frombuffer(np.float16(deviation / unit).tobytes(), np.uint8)
    if kind == T.Q4_0:
        blocks[:, 0:2] = scale(4.6)
    elif kind == T.Q8_0:
        blocks[:, 0:2] = scale(73.6)
    elif kind == T.MXFP4:
        blocks[:, 0] = 127 + int(np.round(np.log2(deviation / 2.9)))
    else:  # Q6_K: 128 + 64 bytes of codes, 16 of sub-scales, the scale
        blocks[:, 192:208] = 32
        blocks[:, 208:210] = scale(18.6 * 32)
    return blocks.reshape(shape[:-1] + (shape[-1] // weights * size,))


class Writer:
    def __init__(self, path, arch, layers, sizes):
        self.gguf = gguf.GGUFWriter(path, arch)
        self.dim, self.vocab, self.layers = sizes["dim"], sizes["vocab"], layers
        self.tensors = []
        g = self.gguf
        g.add_name(f"random weights in the shapes of {sys.argv[2]}")
        g.add_context_length(32768)
        g.add_embedding_length(self.dim)
        g.add_block_count(layers)
        g.add_feed_forward_length(sizes["dense"])
        g.add_expert_feed_forward_length(sizes["expert"])
        g.add_expert_count(sizes["experts"])
        g.add_expert_used_count(sizes["top"])
        g.add_head_count(sizes["heads"])
        g.add_head_count_kv(sizes["kv_heads"])
        g.add_layer_norm_rms_eps(sizes["eps"])
        g.add_rope_freq_base(sizes["theta"])
        g.add_vocab_size(self.vocab)
        g.add_tokenizer_model("llama")
        pieces = [b"<unk>", b"<s>", b"</s>"] + [b"<0x%02X>" % i for i in range(256)]
        pieces += [("\u2581t%d" % i).encode() for i in range(self.vocab - 259)]
        g.add_token_list(pieces)
        g.add_token_scores([0.0] * self.vocab)
        g.add_token_types([2, 3, 3] + [6] * 256 + [1] * (self.vocab - 259))
        g.add_bos_token_id(1)
        g.add_eos_token_id(2)
        g.add_unk_token_id(0)

    def add(self, name, shape, kind=T.F32, middle=0.0):
        self.tensors.append((name, tuple(shape), kind, middle))

    def add_layer(self, layer, tensors):
        for name, shape, *rest in tensors:
            self.add(f"blk.{layer}.{name}", shape, *rest)

    def write(self):
        g = self.gguf
        for name, shape, kind, middle in self.tensors:
            if kind == T.F32:
                g.add_tensor_info(name, shape, np.dtype(np.float32), int(np.prod(shape)) * 4)
            else:
                weights, size = BLOCKS[kind]
                in_bytes = shape[:-1] + (shape[-1] // weights * size,)
                g.add_tensor_info(name, in_bytes, np.dtype(np.uint8), int(np.prod(in_bytes)), raw_dtype=kind)
        g.write_header_to_file()
        g.write_kv_data_to_file()
        g.write_ti_data_to_file()
        for name, shape, kind, middle in self.tensors:
            if kind == T.F32:
                width = 1 / np.sqrt(shape[-1]) if len(shape) > 1 else 0.1
                g.write_tensor_data((middle + width * rng.standard_normal(shape)).astype(np.float32))
            else:
                g.write_tensor_data(random_blocks(kind, shape))
        g.close()


def ends(w, matrix, output):
    w.add("token_embd.weight", (w.vocab, w.dim), matrix)
    w.add("output_norm.weight", (w.dim,), T.F32, 1.0)
    w.add("output.weight", (w.vocab, w.dim), output)


def gpt_oss_20b(path, layers):
    d, ff, e, hd, kd = 2880, 2880, 32, 4096, 512
    w = Writer(path, "gpt-oss", layers, dict(dim=d, vocab=201088, dense=ff, expert=ff, experts=e, top=4, heads=64, kv_heads=8,
                                             eps=1e-5, theta=150000.0))
    g = w.gguf
    g.add_key_length(64)
    g.add_value_length(64)
    g.add_sliding_window(128)
    g.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    g.add_rope_scaling_factor(32.0)
    g.add_rope_scaling_orig_ctx_len(4096)
    g.add_rope_dimension_count(64)
    ends(w, T.Q8_0, T.Q8_0)
    for layer in range(layers):
        w.add_layer(layer, [
            ("attn_norm.weight", (d,), T.F32, 1.0), ("post_attention_norm.weight", (d,), T.F32, 1.0),
            ("attn_q.weight", (hd, d), T.Q8_0), ("attn_q.bias", (hd,)), ("attn_k.weight", (kd, d), T.Q8_0), ("attn_k.bias", (kd,)),
            ("attn_v.weight", (kd, d), T.Q8_0), ("attn_v.bias", (kd,)), ("attn_output.weight", (d, hd), T.Q8_0),
            ("attn_output.bias", (d,)), ("attn_sinks.weight", (64,)), ("ffn_gate_inp.weight", (e, d)), ("ffn_gate_inp.bias", (e,)),
            ("ffn_gate_exps.weight", (e, ff, d), T.MXFP4), ("ffn_gate_exps.bias", (e, ff)),
            ("ffn_up_exps.weight", (e, ff, d), T.MXFP4), ("ffn_up_exps.bias", (e, ff)),
            ("ffn_down_exps.weight", (e, d, ff), T.MXFP4), ("ffn_down_exps.bias", (e, d)),
        ])
    return w


def latent(path, layers, sizes, q_rank, plain, value, dense_ff, shared, gating, scale):
    d, ff, e, heads, rank, rope = sizes["dim"], sizes["expert"], sizes["experts"], sizes["heads"], 512, 64
    w = Writer(path, "deepseek2", layers, {**sizes, "dense": dense_ff, "kv_heads": 1})
    g = w.gguf
    g.add_leading_dense_block_count(1)
    if q_rank:
        g.add_q_lora_rank(q_rank)
    g.add_kv_lora_rank(rank)
    g.add_key_length(rank + rope)
    g.add_value_length(rank)
    g.add_key_length_mla(plain + rope)
    g.add_value_length_mla(value)
    g.add_expert_shared_count(shared)
    g.add_expert_weights_scale(scale)
    g.add_expert_gating_func(gating)
    g.add_expert_weights_norm(gating == gguf.ExpertGatingFuncType.SIGMOID)
    g.add_rope_dimension_count(rope)
    ends(w, T.Q4_0, T.Q6_K)
    q = T.Q4_0
    for layer in range(layers):
        rows = heads * (plain + rope)
        queries = [("attn_q.weight", (rows, d), q)] if not q_rank else [
            ("attn_q_a.weight", (q_rank, d), q), ("attn_q_a_norm.weight", (q_rank,), T.F32, 1.0), ("attn_q_b.weight", (rows, q_rank), q)]
        w.add_layer(layer, queries + [
            ("attn_norm.weight", (d,), T.F32, 1.0), ("ffn_norm.weight", (d,), T.F32, 1.0),
            ("attn_kv_a_mqa.weight", (rank + rope, d), q), ("attn_kv_a_norm.weight", (rank,), T.F32, 1.0),
            ("attn_k_b.weight", (heads, rank, plain), q), ("attn_v_b.weight", (heads, value, rank), q),
            ("attn_output.weight", (d, heads * value), q)])
        if layer == 0:
            w.add_layer(layer, [("ffn_gate.weight", (dense_ff, d), q), ("ffn_up.weight", (dense_ff, d), q),
                                ("ffn_down.weight", (d, dense_ff), q)])
            continue
        if gating == gguf.ExpertGatingFuncType.SIGMOID:
            w.add_layer(layer, [("exp_probs_b.bias", (e,))])
        w.add_layer(layer, [
            ("ffn_gate_inp.weight", (e, d)), ("ffn_gate_exps.weight", (e, ff, d), q), ("ffn_up_exps.weight", (e, ff, d), q),
            ("ffn_down_exps.weight", (e, d, ff), q), ("ffn_gate_shexp.weight", (shared * ff, d), q),
            ("ffn_up_shexp.weight", (shared * ff, d), q), ("ffn_down_shexp.weight", (d, shared * ff), q)])
    return w


def deepseek_v2_lite(path, layers):
    return latent(path, layers, dict(dim=2048, vocab=102400, expert=1408, experts=64, top=6, heads=16, eps=1e-6, theta=10000.0), 0,
                  128, 128, 10944, 2, gguf.ExpertGatingFuncType.SOFTMAX, 1.0)


def glm_47_flash(path, layers):
    return latent(path, layers, dict(dim=2048, vocab=154880, expert=1536, experts=64, top=4, heads=20, eps=1e-5, theta=1e6), 768,
                  192, 256, 10240, 1, gguf.ExpertGatingFuncType.SIGMOID, 1.8)


def qwen36_35b_a3b(path, layers):
    d, ff, e, q = 2048, 512, 256, T.Q4_0
    w = Writer(path, "qwen35moe", layers, dict(dim=d, vocab=248320, dense=ff, expert=ff, experts=e, top=8, heads=16, kv_heads=2,
                                               eps=1e-6, theta=1e7))
    g = w.gguf
    g.add_expert_shared_feed_forward_length(ff)
    g.add_key_length(256)
    g.add_value_length(256)
    g.add_rope_dimension_count(64)
    g.add_rope_dimension_sections([11, 11, 10, 0])
    g.add_ssm_conv_kernel(4)
    g.add_ssm_inner_size(4096)
    g.add_ssm_state_size(128)
    g.add_ssm_time_step_rank(32)
    g.add_ssm_group_count(16)
    g.add_full_attention_interval(4)
    ends(w, q, T.Q6_K)
    for layer in range(layers):
        w.add_layer(layer, [("attn_norm.weight", (d,), T.F32, 1.0), ("post_attention_norm.weight", (d,), T.F32, 1.0)])
        if layer % 4 == 3:
            w.add_layer(layer, [
                ("attn_q.weight", (16 * 512, d), q), ("attn_k.weight", (512, d), q), ("attn_v.weight", (512, d), q),
                ("attn_output.weight", (d, 4096), q), ("attn_q_norm.weight", (256,), T.F32, 1.0), ("attn_k_norm.weight", (256,), T.F32, 1.0)])
        else:
            w.add_layer(layer, [
                ("attn_qkv.weight", (8192, d), q), ("attn_gate.weight", (4096, d), q), ("ssm_conv1d.weight", (8192, 4)),
                ("ssm_dt.bias", (32,)), ("ssm_a", (32,), T.F32, -1.0), ("ssm_beta.weight", (32, d), q), ("ssm_alpha.weight", (32, d), q),
                ("ssm_norm.weight", (128,), T.F32, 1.0), ("ssm_out.weight", (d, 4096), q)])
        w.add_layer(layer, [
            ("ffn_gate_inp.weight", (e, d)), ("ffn_gate_exps.weight", (e, ff, d), q), ("ffn_up_exps.weight", (e, ff, d), q),
            ("ffn_down_exps.weight", (e, d, ff), q), ("ffn_gate_inp_shexp.weight", (d,)), ("ffn_gate_shexp.weight", (ff, d), q),
            ("ffn_up_shexp.weight", (ff, d), q), ("ffn_down_shexp.weight", (d, ff), q)])
    return w


MODELS = {"gpt-oss-20b": gpt_oss_20b, "deepseek-v2-lite": deepseek_v2_lite, "glm-4.7-flash": glm_47_flash,
          "qwen3.6-35b-a3b": qwen36_35b_a3b}

if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[2] not in MODELS:
        sys.exit(__doc__)
    MODELS[sys.argv[2]](sys.argv[1], int(sys.argv[3])).write()
