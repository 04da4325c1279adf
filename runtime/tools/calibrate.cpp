// Calibration: what inputs the experts get when a text is read.

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/invariant.h"
#include "runtime/forward/session_impl.h"

namespace sluice::runtime {
namespace {

/// sums += (weight x)(weight x)'. Element by element in one order: the bits do not depend on the machine.
void add_moment(std::span<float> sums, const float* x, float weight, std::size_t width) {
  const float squared = weight * weight;
  for (std::size_t row = 0; row < width; ++row) {
    const float scaled = squared * x[row];
    float* out = &sums[row * width];
    for (std::size_t col = 0; col < width; ++col) out[col] += scaled * x[col];
  }
}

SessionOptions session_options(const Model& model, const CalibrationOptions& options) {
  SessionOptions session;
  session.thread_count = options.thread_count;
  session.context_tokens = options.context_tokens;
  session.prefill_chunk_tokens = options.context_tokens;
  session.isa = options.isa;
  session.reserved_bytes = options.memory_bytes + options.context_tokens * model.params().num_experts_per_tok *
                                                    model.params().hidden_dim * sizeof(float);
  session.stop = options.stop;
  return session;
}

}  // namespace

// Tasks are blocks of an expert's inputs; each takes the tokens in their order.
void Session::Impl::add_statistics() {
  const std::size_t up_blocks = statistics->experts.front().up.blocks();
  const std::size_t blocks = up_blocks + statistics->experts.front().down.blocks();
  pool.run(params.num_experts * blocks, [&](std::size_t task, unsigned) {
    const std::size_t e = task / blocks;
    const bool is_up = task % blocks < up_blocks;
    const std::size_t block = is_up ? task % blocks : task % blocks - up_blocks;
    format::InputMoments& moments = is_up ? statistics->experts[e].up : statistics->experts[e].down;
    for (std::size_t slot = routing.first_slot[e]; slot < routing.first_slot[e + 1]; ++slot) {
      const auto [token, weight] = routing.slots[slot];
      const float* input = is_up ? &normed[token * dim] : &kept_hidden[slot * hidden];
      add_moment(moments.block(block), input + block * format::kMomentBlock, weight,
                 moments.block_width(block));
    }
  });
  for (std::size_t e = 0; e < params.num_experts; ++e)
    statistics->experts[e].tokens += routing.slots_of(e).size();
}

struct Calibrator::Impl {
  Impl(const Model& model, std::string_view text, const CalibrationOptions& options)
      : session(model, session_options(model, options)) {
    const std::vector<TokenId> ids = model.tokenizer().encode(text);
    if (ids.empty())
      throw base::Error(base::ErrorKind::malformed, "the text to calibrate with has no tokens");
    tokens_total = ids.size();
    const std::uint64_t row_bytes = session.dim * sizeof(float);
    const std::uint64_t rows_max = std::max(options.memory_bytes / row_bytes, options.context_tokens);
    const auto chunk_max = static_cast<std::size_t>(options.context_tokens - 1);
    std::size_t rows = 0;
    for (std::size_t done = 0; done < ids.size();) {
      const auto count = std::min(chunk_max, ids.size() - done);
      if (rows + count > rows_max) break;
      std::vector<TokenId> input{model.tokenizer().bos()};
      input.insert(input.end(), ids.begin() + static_cast<std::ptrdiff_t>(done),
                   ids.begin() + static_cast<std::ptrdiff_t>(done + count - 1));
      rows += input.size();
      chunks.push_back(std::move(input));
      done += count;
    }
    tokens = rows;
    states.reserve(rows * session.dim);
  }

  void run_layer(format::LayerStatistics& statistics) {
    session.statistics = &statistics;
    float* state = states.data();
    for (const auto& chunk : chunks) {
      const std::size_t count = chunk.size() * session.dim;
      // Every chunk starts at position 0, so the angles of the first and longest one are those of all.
      if (layer == 0) {
        session.begin(chunk);
      } else {
        if (&chunk == &chunks.front()) session.begin(chunk);
        std::copy_n(state, count, session.x.data());
      }
      if (session.stream) session.stream->begin_pass();
      session.run_layer(layer, chunk);
      std::copy_n(session.x.data(), count, state);
      state += count;
    }
  }

  Session::Impl session;
  std::vector<std::vector<TokenId>> chunks;  ///< BOS in front
  std::uint64_t tokens = 0;
  std::uint64_t tokens_total = 0;
  Buffer<float> states;  ///< [token][dim] the residual stream of all chunks, after `layer` layers
  std::size_t layer = 0;
};

Calibrator::Calibrator(const Model& model, std::string_view text, const CalibrationOptions& options)
    : impl_(std::make_unique<Impl>(model, text, options)) {}
Calibrator::~Calibrator() = default;
Calibrator::Calibrator(Calibrator&&) noexcept = default;

std::uint64_t Calibrator::tokens() const { return impl_->tokens; }
std::uint64_t Calibrator::tokens_total() const { return impl_->tokens_total; }

format::LayerStatistics Calibrator::next_layer() {
  INVARIANT(impl_->layer < impl_->session.params.n_layers);
  format::LayerStatistics statistics;
  statistics.layer = impl_->layer;
  for (std::size_t e = 0; e < impl_->session.params.num_experts; ++e)
    statistics.experts.push_back(
        {0, format::InputMoments(impl_->session.dim), format::InputMoments(impl_->session.hidden)});
  impl_->run_layer(statistics);
  ++impl_->layer;
  return statistics;
}

}  // namespace sluice::runtime
