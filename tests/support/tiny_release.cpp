#include "tests/support/tiny_release.h"

#include <cmath>
#include <span>
#include <stdexcept>

#include "base/bytes.h"
#include "base/file.h"
#include "tests/support/pth_writer.h"

namespace sluice::tests {
namespace {

/// SplitMix64 (Steele, Lea, Flood 2014), and roughly normal numbers as plain sums of its output: library
/// functions may differ in the last bit between machines.
class Random final {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  [[nodiscard]] std::uint64_t next() {
    state_ += 0x9E3779B97F4A7C15u;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }

  /// Mean 0, variance 1: the sum of 12 numbers that are uniform in [0, 1), less 6.
  [[nodiscard]] float normal() {
    double sum = -6;
    for (int i = 0; i < 4; ++i) {
      const std::uint64_t bits = next();
      for (int part = 0; part < 3; ++part)
        sum += static_cast<double>((bits >> (21 * part)) & 0x1FFFFF) * 0x1p-21;
    }
    return static_cast<float>(sum);
  }

 private:
  std::uint64_t state_;
};

std::uint64_t seed_of(std::uint64_t seed, const std::string& name) {
  std::uint64_t hash = 0xCBF29CE484222325u ^ seed;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return hash;
}

class Maker final {
 public:
  explicit Maker(std::uint64_t seed) : seed_(seed) {}

  void norm(const std::string& name, std::uint64_t width) { fill(name, {width}, 1.0F, 0.1F); }

  void matrix(const std::string& name, std::uint64_t outputs, std::uint64_t inputs) {
    fill(name, {outputs, inputs}, 0.0F, 1.0F / std::sqrt(static_cast<float>(inputs)));
  }

  [[nodiscard]] std::vector<TinyTensor> take() { return std::move(tensors_); }

 private:
  void fill(const std::string& name, format::Shape shape, float mean, float deviation) {
    const auto count = format::element_count(shape);
    TinyTensor tensor{.name = name + ".weight", .shape = std::move(shape), .bf16 = {}};
    Random random(seed_of(seed_, tensor.name));
    tensor.bf16.reserve(*count);
    for (std::uint64_t i = 0; i < *count; ++i) {
      tensor.bf16.push_back(format::f32_to_bf16(mean + deviation * random.normal()));
    }
    tensors_.push_back(std::move(tensor));
  }

  std::uint64_t seed_;
  std::vector<TinyTensor> tensors_;
};

void make_expert(Maker& maker, const std::string& prefix, const format::MistralParams& params) {
  maker.matrix(prefix + "w1", params.hidden_dim, params.dim);
  maker.matrix(prefix + "w2", params.dim, params.hidden_dim);
  maker.matrix(prefix + "w3", params.hidden_dim, params.dim);
}

void make_layer(Maker& maker, const std::string& prefix, const format::MistralParams& params) {
  maker.matrix(prefix + "attention.wq", params.n_heads * params.head_dim, params.dim);
  maker.matrix(prefix + "attention.wk", params.n_kv_heads * params.head_dim, params.dim);
  maker.matrix(prefix + "attention.wv", params.n_kv_heads * params.head_dim, params.dim);
  maker.matrix(prefix + "attention.wo", params.dim, params.n_heads * params.head_dim);
  maker.norm(prefix + "attention_norm", params.dim);
  maker.norm(prefix + "ffn_norm", params.dim);
  if (params.num_experts == 0) {
    make_expert(maker, prefix + "feed_forward.", params);
    return;
  }
  maker.matrix(prefix + "feed_forward.gate", params.num_experts, params.dim);
  for (std::uint64_t expert = 0; expert < params.num_experts; ++expert) {
    make_expert(maker, prefix + "feed_forward.experts." + std::to_string(expert) + ".", params);
  }
}

}  // namespace

format::MistralParams tiny_params() {
  format::MistralParams params;
  params.dim = 64;
  params.n_layers = 2;
  params.head_dim = 16;
  params.hidden_dim = 128;
  params.n_heads = 4;
  params.n_kv_heads = 2;
  params.vocab_size = kTinyVocab;
  params.num_experts = 4;
  params.num_experts_per_tok = 2;
  return params;
}

std::vector<TinyTensor> make_tiny_tensors(const format::MistralParams& params, std::uint64_t seed) {
  format::validate(params, "tiny release");
  Maker maker(seed);
  maker.matrix("tok_embeddings", params.vocab_size, params.dim);
  maker.norm("norm", params.dim);
  maker.matrix("output", params.vocab_size, params.dim);
  for (std::uint64_t layer = 0; layer < params.n_layers; ++layer) {
    make_layer(maker, "layers." + std::to_string(layer) + ".", params);
  }
  return maker.take();
}

format::Storage storage_of(const format::ModelTensor& tensor, format::Storage matrices) {
  if (tensor.quantization == format::QuantizationClass::unquantized) return format::Storage::f32_rows;
  return tensor.quantization == format::QuantizationClass::embedding ? format::Storage::bf16_rows : matrices;
}

void write_tiny_release(const std::filesystem::path& folder, const format::MistralParams& params,
                        const std::vector<TinyTensor>& tensors) {
  PthWriter pth("consolidated.00");
  for (const TinyTensor& tensor : tensors) {
    const auto bytes = base::as_text(std::as_bytes(std::span(tensor.bf16)));
    pth.add(tensor.name, format::DType::bf16, tensor.shape, bytes);
  }
  pth.write(folder / "consolidated.00.pth");
  write_plainly(folder / "params.json", to_json(params).dump_pretty());
  const std::filesystem::path demo = SLUICE_DEMO_RELEASE;
  write_plainly(folder / "tokenizer.model", base::read_text_file(demo / "tokenizer.model"));
}

void write_tiny_release(const std::filesystem::path& folder, const format::MistralParams& params,
                        std::uint64_t seed) {
  write_tiny_release(folder, params, make_tiny_tensors(params, seed));
}

}  // namespace sluice::tests
