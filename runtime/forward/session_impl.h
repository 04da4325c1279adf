#pragma once
// The forward pass: buffers, and the steps that session.cpp, attention.cpp and mixture.cpp implement.
//
// Rows of floats are padded with zeros to whole tiles (64), so that no kernel has a tail. T is the number of
// tokens in the chunk at hand.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "base/parallel.h"
#include "runtime/forward/rope.h"
#include "runtime/kernels/buffer.h"
#include "runtime/kernels/kernels.h"
#include "runtime/kernels/matmul.h"
#include "runtime/memory/expert_cache.h"
#include "runtime/memory/kv_cache.h"
#include "runtime/memory/model_impl.h"
#include "runtime/memory/residency.h"
#include "runtime/runtime.h"

namespace sluice::runtime {

/// Inputs of attention and head are quantized as finely as those of w2: they are few
/// (docs/decisions/0002-activation-chunks.md).
constexpr std::size_t kAttentionChunk = format::kActivationChunkDown;

/// Which experts the tokens of a chunk go to in one layer.
struct Routing {
  std::vector<std::uint32_t> experts;  ///< [token][k], by falling gate logit
  std::vector<float> weights;          ///< [token][k]
  std::vector<float> margins;          ///< [token]; only where k < experts and somebody listens
  struct Slot {
    std::uint32_t token;  ///< index in the chunk
    float weight;
  };
  std::vector<Slot> slots;                ///< [T * k] by expert, then by token: the rows that experts compute
  std::vector<std::uint32_t> first_slot;  ///< [expert], and the number of slots as the last
  std::vector<std::uint32_t> used;        ///< experts with tokens, ascending

  [[nodiscard]] std::span<const Slot> slots_of(std::size_t expert) const {
    return std::span(slots).subspan(first_slot[expert], first_slot[expert + 1] - first_slot[expert]);
  }
};

struct Session::Impl {
  Impl(const Model& model_in, SessionOptions options_in);

  /// Tokens of one chunk through all layers; the residual stream is then in `x`.
  void forward(std::span<const TokenId> tokens);
  /// One layer of a chunk of tokens whose residual stream is in `x`; `forward` in single steps.
  void begin(std::span<const TokenId> tokens);
  void run_layer(std::size_t layer, std::span<const TokenId> tokens);
  /// Logits of rows [first, first + count) of the chunk -> `logits` [row][vocab padded].
  void head(std::size_t first, std::size_t count);

  const Model& model;
  const Model::Impl& weights;
  const format::ModelParams& params;
  SessionOptions options;
  const Kernels& kernels;
  base::WorkerPool pool;
  KvCache cache;
  Rope rope;
  std::uint64_t position = 0;  ///< tokens seen so far
  PartSeconds part_seconds;

  // Widths of rows, padded.
  std::size_t dim;
  std::size_t query_width;
  std::size_t key_width;
  std::size_t hidden;
  std::size_t vocab;

  Buffer<float> x;              ///< [T][dim] residual stream
  Buffer<float> normed;         ///< [T][dim]
  Buffer<float> q;              ///< [T][query_width]
  Buffer<float> k;              ///< [T][key_width]
  Buffer<float> v;              ///< [T][key_width]
  Buffer<float> mixed;          ///< [T][query_width] attention's output, heads side by side
  Buffer<float> update;         ///< [T][dim] what a block adds to x
  Buffer<float> cosines;        ///< [T][head_dim / 2]
  Buffer<float> sines;          ///< [T][head_dim / 2]
  Buffer<float> logits;         ///< [T or 1][vocab]
  OperandBuffer attention_in;   ///< normed, for wq, wk, wv
  OperandBuffer attention_out;  ///< mixed, for wo
  OperandBuffer mixture_in;     ///< normed, for all experts
  OperandBuffer head_in;
  OperandBuffer expert_in;      ///< [slot] the token's row of mixture_in
  OperandBuffer expert_hidden;  ///< [slot] silu(gate) * up
  Routing routing;
  // Only where the model does not fit into memory.
  std::unique_ptr<PinnedWeights> pinned_weights;
  std::unique_ptr<ExpertCache> stream;
  struct Scratch {         ///< one a worker
    Buffer<float> head;    ///< a key and a value, or queries and attention's results, padded to kLanes
    Buffer<float> gate;    ///< [rows][slice]
    Buffer<float> up;      ///< [rows][slice]
    Buffer<float> router;  ///< [expert] a token's gate logits
    Buffer<float> chosen;  ///< [k padded to kLanes] those of the chosen, and their weights
  };
  std::vector<Scratch> scratch;
  /// While calibrating: what the experts' inputs are added to; w2's inputs are then kept as floats, too.
  format::LayerStatistics* statistics = nullptr;
  Buffer<float> kept_hidden;  ///< [slot][hidden]

 private:
  struct Group;  ///< experts that are computed with at once

  void reserve();
  void decide_residency();
  void embed(std::span<const TokenId> tokens);
  void attention(std::size_t layer);
  void mixture(std::size_t layer, std::span<const TokenId> tokens);

  // calibrate.cpp
  void add_statistics();

  // attention.cpp
  void project_heads(std::size_t layer, const Operand& in);
  void rotate_and_store(std::size_t layer);
  void attend(std::size_t layer);

  // mixture.cpp
  void route(std::size_t layer);
  void sort_slots();
  void gather(std::size_t layer, const Operand& in);
  /// The rows of the expert's tokens, for `matrix`.
  [[nodiscard]] Operand inputs_of(std::uint32_t expert, const Matrix& matrix);
  [[nodiscard]] Operand hidden_of(std::uint32_t expert, const Matrix& matrix);
  void mapped_experts(std::size_t layer);
  void streamed_experts(std::size_t layer);
  void experts_up(const Group& group);
  void experts_down(const Group& group);
  void report_routing(std::size_t layer, std::span<const TokenId> tokens);

  /// Calls body() and adds the time that it took to `seconds`.
  template <typename F>
  void timed(double& seconds, F body) {
    const auto start = std::chrono::steady_clock::now();
    body();
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  /// out[T][matrix rows padded] = operand x matrix, sliced over the workers.
  void product(const Matrix& matrix, const Operand& operand, float* out, std::size_t out_stride);
  /// normed = rms_norm(x) for all tokens, and `operand` filled with it.
  void normalize(const float* weight, const Operand& operand);
  /// body(token, worker) for all tokens of the chunk.
  template <typename F>
  void for_each_token(F body) {
    if (tokens_now == 1) return body(std::size_t{0}, 0u);
    pool.run(tokens_now, std::move(body));
  }

  std::size_t tokens_now = 0;  ///< T of the chunk at hand
};

}  // namespace sluice::runtime
