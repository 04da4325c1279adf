// Calibration: runs a text through the model and sums up the second moments of what the experts read
// (format/expert_statistics.h), for quantization to weigh rounding errors with.
//
// All chunks of the text go through one layer before any goes through the next. So every layer's weights are
// read once, and only one layer's statistics are held; the price is the residual stream of all tokens, whose
// memory bounds how much of the text is used. The engine's sequence is not fed in the usual way: each chunk
// computes from position 0 and overwrites the keys and values of the one before.

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/invariant.h"
#include "runtime/forward/engine_impl.h"

namespace sluice::runtime {
namespace {

/// sums += (weight x)(weight x)', [width][width]. Element by element in one order, so that the bits do not
/// depend on the machine. The router's weight is part of it, because an expert's error reaches the output
/// multiplied by it.
void add_moment(std::span<float> sums, const float* x, float weight, std::size_t width) {
  const float squared = weight * weight;
  for (std::size_t row = 0; row < width; ++row) {
    const float scaled = squared * x[row];
    float* out = &sums[row * width];
    for (std::size_t col = 0; col < width; ++col) out[col] += scaled * x[col];
  }
}

EngineOptions engine_options(const Model& model, const CalibrationOptions& options) {
  EngineOptions engine;
  engine.thread_count = options.thread_count;
  engine.context_tokens = options.context_tokens;
  engine.step_tokens_max = options.context_tokens;
  engine.isa = options.isa;
  engine.matmul = MatmulEngine::own;  // statistics, and so what is quantized, must not depend on the CPU
  const std::uint64_t hidden = model.impl().shape.largest(
      [](const LayerShape& layer) { return layer.experts_per_token * layer.hidden_width; });
  engine.reserved_bytes = options.memory_bytes + options.context_tokens * hidden * sizeof(float);
  return engine;
}

/// Adds the inputs of one layer's experts to its statistics.
class StatisticsObserver final : public ExpertInputObserver {
 public:
  explicit StatisticsObserver(format::LayerStatistics& statistics) : statistics_(statistics) {}

  // Tasks are blocks of an expert's inputs; each takes the rows in their order. So no two workers add to the
  // same sum, and the number of threads does not change the bits.
  void observe(const ExpertInputs& inputs, base::WorkerPool& pool) override {
    const Routing& routing = inputs.routing;
    auto& experts = statistics_.experts;
    const std::size_t up_blocks = experts.front().up.blocks();
    const std::size_t blocks = up_blocks + experts.front().down.blocks();
    pool.run(experts.size() * blocks, [&](std::size_t task, unsigned) {
      const std::size_t e = task / blocks;
      const bool is_up = task % blocks < up_blocks;
      const std::size_t block = is_up ? task % blocks : task % blocks - up_blocks;
      format::InputMoments& moments = is_up ? experts[e].up : experts[e].down;
      for (std::size_t i = routing.first_assignment[e]; i < routing.first_assignment[e + 1]; ++i) {
        const auto [row, weight] = routing.assignments[i];
        const float* input =
            is_up ? inputs.gate_up + row * inputs.gate_up_width : inputs.down + i * inputs.down_width;
        add_moment(moments.block(block), input + block * format::kMomentBlock, weight,
                   moments.block_width(block));
      }
    });
    for (std::size_t e = 0; e < experts.size(); ++e) experts[e].tokens += routing.assignments_of(e).size();
  }

 private:
  format::LayerStatistics& statistics_;
};

}  // namespace

struct Calibrator::Impl {
  Impl(const Model& model, std::string_view text, const CalibrationOptions& options)
      : engine(model, engine_options(model, options)), sequence(engine), stop(options.stop) {
    const std::vector<TokenId> ids = model.tokenizer().encode(text);
    if (ids.empty())
      throw base::Error(base::ErrorKind::malformed, "the text to calibrate with has no tokens");
    tokens_total = ids.size();
    const std::size_t dim = engine.impl().dim;
    const std::uint64_t rows_max =
        std::max(options.memory_bytes / (dim * sizeof(float)), options.context_tokens);
    const std::optional<TokenId> bos = model.tokenizer().bos();
    const auto chunk_max = static_cast<std::size_t>(options.context_tokens - (bos ? 1 : 0));
    std::size_t rows = 0;
    for (std::size_t done = 0; done < ids.size();) {
      const auto count = std::min(chunk_max, ids.size() - done);
      if (rows + count > rows_max) break;
      // After a BOS the chunk's last token is left out, as in an evaluation: nothing is predicted from it.
      std::vector<TokenId> input;
      if (bos) input.push_back(*bos);
      const std::size_t taken = bos ? count - 1 : count;
      input.insert(input.end(), ids.begin() + static_cast<std::ptrdiff_t>(done),
                   ids.begin() + static_cast<std::ptrdiff_t>(done + taken));
      rows += input.size();
      chunks.push_back(std::move(input));
      done += count;
    }
    tokens = rows;
    states.reserve(rows * dim);
  }

  /// Runs all chunks through the next layer. Each chunk is the whole sequence while it is computed. The
  /// sequence's position stays 0: only Engine::step() advances it.
  void run_layer(format::LayerStatistics& statistics) {
    Engine::Impl& e = engine.impl();
    StatisticsObserver observer(statistics);
    e.observer = &observer;
    float* state = states.data();
    for (const auto& chunk : chunks) {
      if (stop.stop_requested()) throw base::Error(base::ErrorKind::interrupted, "interrupted");
      const StepInput input{&sequence, chunk, LogitsOf::none};
      sequence.impl().cache.reserve(0, chunk.size());
      e.begin({&input, 1});
      const std::size_t count = chunk.size() * e.dim;
      // begin() has put the embeddings into x, which is the state before layer 0. Later layers continue from
      // the saved one.
      if (layer > 0) std::copy_n(state, count, e.activations.x.data());
      e.run_layer(layer);
      std::copy_n(e.activations.x.data(), count, state);
      state += count;
    }
    e.observer = nullptr;
  }

  Engine engine;
  Sequence sequence;
  std::stop_token stop;
  std::vector<std::vector<TokenId>> chunks;  ///< BOS in front where the model has one
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
  const Engine::Impl& engine = impl_->engine.impl();
  INVARIANT(impl_->layer < engine.shape.layers.size());
  format::LayerStatistics statistics;
  statistics.layer = impl_->layer;
  const std::size_t hidden = engine.padded[impl_->layer].hidden;
  for (std::size_t e = 0; e < engine.shape.layers[impl_->layer].experts; ++e)
    statistics.experts.push_back({0, format::InputMoments(engine.dim), format::InputMoments(hidden)});
  impl_->run_layer(statistics);
  ++impl_->layer;
  return statistics;
}

}  // namespace sluice::runtime
