// A container with random weights in the shapes of Mixtral 8x7B, for measurements of speed: written directly,
// without a release that it would come from. The same options give the same bytes.
//
//   random_container OUT [--layers 4] [--experts 8] [--type q4|q6|q8|bf16] [--attention ..]
//                        [--dim 4096] [--hidden 14336] [--tokenizer FILE]
//
// Weights are uniform and scaled so that a row of a product has the variance of its input (wo: a tenth of the
// deviation). Attention and
// output matrices are of the type that `sluice convert` gives them, unless told otherwise. Widths are
// multiples of 64, so that there is no padding. Takes the memory of the largest tensor, which is the head.

#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <future>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "format/container_writer.h"
#include "format/mistral_params.h"
#include "format/model_tensors.h"

namespace {

using namespace sluice;
using format::Storage;

constexpr std::uint64_t kHeadDim = 128;
constexpr std::uint64_t kVocabulary = 32000;

struct Arguments {
  std::string output;
  std::map<std::string, std::string> values = {{"--layers", "4"},
                                               {"--experts", "8"},
                                               {"--type", "q4"},
                                               {"--attention", ""},
                                               {"--dim", "4096"},
                                               {"--hidden", "14336"},
                                               {"--tokenizer", SLUICE_DEMO_TOKENIZER}};

  Arguments(int count, char** words) {
    for (int i = 1; i < count; ++i) {
      const std::string word = words[i];
      const auto option = values.find(word);
      if (option != values.end() && i + 1 < count) {
        option->second = words[++i];
      } else if (output.empty() && !word.starts_with("-")) {
        output = word;
      } else {
        throw base::Error(base::ErrorKind::usage, "unexpected argument '" + word + "'");
      }
    }
    if (output.empty()) throw base::Error(base::ErrorKind::usage, "the file to write is missing");
  }

  [[nodiscard]] std::uint64_t number(const std::string& option) const {
    try {
      return std::stoull(values.at(option));
    } catch (const std::exception&) {
      throw base::Error(base::ErrorKind::usage, option + ": not a number: '" + values.at(option) + "'");
    }
  }

  /// Tiled storage of that name.
  [[nodiscard]] static Storage storage(const std::string& type) {
    for (const Storage storage :
         {Storage::q4_tiles, Storage::q6_tiles, Storage::q8_tiles, Storage::bf16_tiles})
      if (format::type_name(storage) == type) return storage;
    throw base::Error(base::ErrorKind::usage, "unknown type '" + type + "'");
  }
};

format::MistralParams params_of(const Arguments& arguments) {
  format::MistralParams params;
  params.dim = arguments.number("--dim");
  params.n_layers = arguments.number("--layers");
  params.head_dim = kHeadDim;
  params.hidden_dim = arguments.number("--hidden");
  params.n_heads = params.dim / kHeadDim;
  params.n_kv_heads = std::max<std::uint64_t>(1, params.n_heads / 4);
  params.vocab_size = kVocabulary;
  params.num_experts = arguments.number("--experts");
  params.num_experts_per_tok = std::min<std::uint64_t>(2, params.num_experts);
  if (params.dim % kHeadDim != 0 || params.hidden_dim % 64 != 0)
    throw base::Error(base::ErrorKind::usage, "--dim must be a multiple of 128, --hidden one of 64");
  format::validate(params, "options");
  return params;
}

/// splitmix64 (Steele, Lea, Flood 2014): each number follows from the last one's place, so loops vectorize.
class Random {
 public:
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }

  /// In [-1, 1).
  float uniform() { return static_cast<float>(next() >> 40) * 0x1p-23f - 1.0f; }

  /// Whole words of random bits, of which only those of `mask` are kept.
  void fill(base::MutableBytes out, std::uint64_t mask) {
    for (std::size_t i = 0; i < out.size(); i += sizeof(std::uint64_t)) base::store_le(out, i, next() & mask);
  }

 private:
  std::uint64_t state_ = 1;
};

void fill_floats(Random& random, base::MutableBytes out, float middle, float width) {
  for (std::size_t i = 0; i < out.size(); i += sizeof(float))
    base::store_le(out, i, std::bit_cast<std::uint32_t>(middle + width * random.uniform()));
}

void fill_bf16(Random& random, base::MutableBytes out, float width) {
  for (std::size_t i = 0; i < out.size(); i += 2) {
    const auto bits = std::bit_cast<std::uint32_t>(width * random.uniform());
    base::store_le(out, i, static_cast<std::uint16_t>(bits >> 16));
  }
}

void fill_scales(base::MutableBytes out, float scale) {
  for (std::size_t i = 0; i < out.size(); i += sizeof(float))
    base::store_le(out, i, std::bit_cast<std::uint32_t>(scale));
}

/// `gain`: deviation of a product's rows to that of its input.
void fill_tiles(Random& random, const format::TileLayout& layout, float gain, base::MutableBytes out) {
  const float unit = gain / std::sqrt(static_cast<float>(layout.cols));  // a weight's deviation
  const auto plane = [&](std::uint64_t begin, std::uint64_t end) { return out.subspan(begin, end - begin); };
  const std::uint64_t codes_end = layout.panels * layout.panel_code_bytes;
  const std::uint64_t scales_bytes = layout.padded_rows * sizeof(float);
  switch (layout.type) {
    case format::TileType::bf16: return fill_bf16(random, out, unit * std::sqrt(3.0f));
    case format::TileType::q8:
      // The format has no code -128.
      random.fill(plane(0, codes_end), ~std::uint64_t{0});
      for (std::byte& code : plane(0, codes_end)) code = code == std::byte{0x80} ? std::byte{0} : code;
      return fill_scales(plane(layout.row_scales_offset_bytes, layout.row_scales_offset_bytes + scales_bytes),
                         unit / 73.6f);
    case format::TileType::q6:
      // Sub-scales of 2 and 3 are what weights have as a rule.
      random.fill(plane(0, codes_end), ~std::uint64_t{0});
      random.fill(plane(layout.magnitudes_offset_bytes, layout.signs_offset_bytes), 0x5555555555555555);
      for (std::byte& magnitudes : plane(layout.magnitudes_offset_bytes, layout.signs_offset_bytes))
        magnitudes ^= (magnitudes & std::byte{0x55}) << 1 ^ std::byte{0xAA};
      return fill_scales(plane(layout.row_scales_offset_bytes, layout.row_scales_offset_bytes + scales_bytes),
                         unit / 47.0f);
    case format::TileType::q4:
      random.fill(plane(0, codes_end), ~std::uint64_t{0});
      // Sub-scales of 1 to 8: so that the pair (-8, -16) does not come up.
      random.fill(plane(layout.magnitudes_offset_bytes, layout.signs_offset_bytes), 0x7777777777777777);
      random.fill(plane(layout.signs_offset_bytes, layout.row_scales_offset_bytes), ~std::uint64_t{0});
      return fill_scales(plane(layout.row_scales_offset_bytes, layout.row_scales_offset_bytes + scales_bytes),
                         unit / 23.4f);
  }
}

class Generator {
 public:
  explicit Generator(const Arguments& arguments)
      : description_(format::describe(params_of(arguments))),
        experts_(Arguments::storage(arguments.values.at("--type"))),
        attention_(arguments.values.at("--attention").empty()
                       ? (experts_ == Storage::q4_tiles ? Storage::q6_tiles : experts_)
                       : Arguments::storage(arguments.values.at("--attention"))),
        tokenizer_(base::read_file(arguments.values.at("--tokenizer"))),
        writer_(arguments.output, description_) {}

  format::WrittenContainer run() {
    writer_.add_section("tokenizer", tokenizer_);
    writer_.set_provenance(format::Json::object({{"release", "random weights"}}));
    writer_.set_recipe(format::Json::object({{"quant", format::type_name(experts_)},
                                             {"experts", format::type_name(experts_)},
                                             {"attention", format::type_name(attention_)}}));
    for (const format::ModelTensor& tensor : format::model_tensors(description_)) add(tensor);
    return writer_.finish();
  }

 private:
  [[nodiscard]] Storage storage_of(format::QuantizationClass quantization) const {
    switch (quantization) {
      case format::QuantizationClass::unquantized: return Storage::f32_rows;
      case format::QuantizationClass::embedding: return Storage::bf16_rows;
      case format::QuantizationClass::attention:
      case format::QuantizationClass::head: return attention_;
      case format::QuantizationClass::feed_forward: break;
    }
    return experts_;
  }

  void fill(const format::ModelTensor& tensor, Storage storage, base::MutableBytes out) {
    if (format::is_tiled(storage)) {
      // Random attention averages over the tokens. At full strength it makes all tokens alike after a few
      // layers, and the routers of those below choose the same experts for all of them.
      const float gain = tensor.role == format::TensorRole::attention_output ? 0.1f : 1.0f;
      fill_tiles(random_, {format::tile_type(storage), tensor.shape[0], tensor.shape[1]}, gain, out);
    } else if (storage == Storage::bf16_rows) {
      fill_bf16(random_, out, 1);
    } else if (tensor.role != format::TensorRole::router) {
      fill_floats(random_, out, 1, 0.1f);
    } else {
      fill_floats(random_, out, 0, std::sqrt(3.0f / static_cast<float>(description_.width)));
    }
  }

  void add(const format::ModelTensor& tensor) {
    const Storage storage = storage_of(tensor.quantization);
    const bool starts_expert = tensor.role == format::TensorRole::expert_gate;
    bytes_.assign(format::storage_bytes(storage, tensor.shape), std::byte{0});
    fill(tensor, storage, bytes_);
    writer_.begin_tensor(
        tensor, storage, format::DType::bf16,
        starts_expert ? format::expert_extent_bytes(description_, tensor.layer, experts_) : 0);
    auto written = std::async(std::launch::async, [&] { writer_.write(bytes_); });
    writer_.hash(bytes_);
    written.get();
    writer_.end_tensor({});
  }

  format::ModelDescription description_;
  Storage experts_;
  Storage attention_;
  std::vector<std::byte> tokenizer_;
  format::ContainerWriter writer_;
  Random random_;
  std::vector<std::byte> bytes_;  // of the current tensor
};

}  // namespace

int main(int count, char** words) {
  try {
    const auto written = Generator(Arguments(count, words)).run();
    std::cout << written.file_bytes << " bytes, root " << base::to_hex(written.root) << "\n";
    return 0;
  } catch (const base::Error& error) {
    std::cerr << "random_container: " << error.what() << "\n";
    return error.kind() == base::ErrorKind::usage ? 2 : 1;
  }
}
