// Which descriptions the forward pass takes, and that docs/families.md says the same.

#include "runtime/memory/supported_model.h"

#include <doctest/doctest.h>

#include <array>
#include <cstdio>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "base/file.h"
#include "convert/plan.h"
#include "format/container_writer.h"
#include "format/mistral_params.h"
#include "format/model_tensors.h"
#include "runtime/memory/kv_cache.h"
#include "runtime/memory/model_cost.h"
#include "runtime/runtime.h"
#include "tests/support/check_error.h"
#include "tests/support/families.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"

namespace sluice::runtime {
namespace {

using namespace format;

GroupedQueryAttention& attention_of(ModelDescription& model) {
  return std::get<GroupedQueryAttention>(model.layer_kinds[0].mixer);
}

Mixture& mixture_of(ModelDescription& model) { return *model.layer_kinds[0].feed_forward.mixture; }

/// A feature by its words in docs/families.md and in the error, and what it is in a description.
struct Feature {
  std::string words;
  std::function<void(ModelDescription&)> add;
};

std::vector<Feature> features() {
  const auto model = [](auto change) { return [change](ModelDescription& m) { change(m); }; };
  const auto attention = [](auto change) {
    return [change](ModelDescription& m) { change(attention_of(m)); };
  };
  const auto router = [](auto change) {
    return [change](ModelDescription& m) { change(mixture_of(m).router); };
  };
  return {
      {"norm with weights plus one", model([](auto& m) { m.norm.weights = NormWeights::plus_one; })},
      {"activation gelu-tanh", model([](auto& m) { m.activation = GeluTanh{}; })},
      {"activation clamped-swiglu", model([](auto& m) { m.activation = ClampedSwiglu{}; })},
      {"embedding tied to the head", model([](auto& m) { m.tied_embeddings = true; })},
      {"embedding scale", model([](auto& m) { m.embedding_scale = 12; })},
      {"residual scale", model([](auto& m) { m.residual_scale = 0.22; })},
      {"logits scale", model([](auto& m) { m.logits_scale = 0.5; })},
      {"final soft cap", model([](auto& m) { m.final_soft_cap = 30; })},
      {"mixer latent-attention", model([](auto& m) {
         m.layer_kinds[0].mixer =
             LatentAttention{2, {}, 8, 8, 8, {}, {}, {RopeStyle::interleaved, 4, 1e4, {}}, {}};
       })},
      {"mixer gated-delta-net",
       model([](auto& m) { m.layer_kinds[0].mixer = GatedDeltaNet{1, 2, 8, 8, 4, {}}; })},
      {"mixer short-convolution", model([](auto& m) { m.layer_kinds[0].mixer = ShortConvolution{3}; })},
      {"sliding window", attention([](auto& a) { a.window_tokens = 11; })},
      {"bias of queries, keys and values", attention([](auto& a) { a.input_biases = true; })},
      {"bias of the attention's output", attention([](auto& a) { a.output_bias = true; })},
      {"query and key norm per head", attention([](auto& a) { a.query_key_norm = QueryKeyNorm::per_head; })},
      {"query and key norm over the full width",
       attention([](auto& a) { a.query_key_norm = QueryKeyNorm::full_width; })},
      {"value norm", attention([](auto& a) { a.value_norm = true; })},
      {"attention without a value matrix", attention([](auto& a) { a.keys_are_values = true; })},
      {"attention sink", attention([](auto& a) { a.sinks = true; })},
      {"gate of the attention's output", attention([](auto& a) { a.output_gate = true; })},
      {"attention scale", attention([](auto& a) { a.scale = 1; })},
      {"attention soft cap", attention([](auto& a) { a.soft_cap = 30; })},
      {"clipping of queries, keys and values", attention([](auto& a) { a.clip = 8; })},
      {"query temperature", attention([](auto& a) {
         a.query_temperature = QueryTemperature{0.1, 8192};
       })},
      {"attention without positions", attention([](auto& a) { a.rope.reset(); })},
      {"half-split RoPE", attention([](auto& a) { a.rope->style = RopeStyle::half_split; })},
      {"RoPE over a part of the head", attention([](auto& a) { a.rope->rotary_dims = 8; })},
      {"RoPE scaling yarn", attention([](auto& a) {
         a.rope->scaling = YarnScaling{2, 4096};
       })},
      {"RoPE scaling llama3", attention([](auto& a) {
         a.rope->scaling = Llama3Scaling{8, 8192, 1, 4};
       })},
      {"RoPE scaling linear", attention([](auto& a) { a.rope->scaling = LinearScaling{2}; })},
      {"RoPE scaling proportional", attention([](auto& a) { a.rope->scaling = ProportionalScaling{4}; })},
      {"dense feed-forward", model([](auto& m) {
         m.layer_kinds[0].feed_forward = {DenseFeedForward{128}, {}};
       })},
      {"dense feed-forward in addition to experts",
       model([](auto& m) { m.layer_kinds[0].feed_forward.dense = DenseFeedForward{128}; })},
      {"bias of the experts", model([](auto& m) { mixture_of(m).expert_biases = true; })},
      {"shared expert", model([](auto& m) {
         mixture_of(m).shared = SharedExpert{64, false};
       })},
      {"router with sigmoid scores", router([](auto& r) { r.score = RouterScore::sigmoid; })},
      {"router without renormalised weights", router([](auto& r) { r.renormalise = false; })},
      {"bias of the router's logits", router([](auto& r) { r.logit_bias = true; })},
      {"bias of the router's selection", router([](auto& r) { r.selection_bias = true; })},
      {"router with groups of experts", router([](auto& r) {
         r.groups = RouterGroups{2, 1, GroupScore::best};
       })},
      {"router scale", router([](auto& r) { r.scale = 2.5; })},
      {"router with an input of its own", router([](auto& r) { r.own_input = true; })},
      {"normalisation behind mixer and feed-forward",
       model([](auto& m) { m.layer_kinds[0].post_norms = true; })},
      {"output scale", model([](auto& m) { m.layer_kinds[0].output_scale = true; })},
      {"layers of different kinds", model([](auto& m) {
         LayerDescription other = m.layer_kinds[0];
         std::get<GroupedQueryAttention>(other.mixer).window_tokens = 11;
         m.add_layers(1, other);
       })},
  };
}

/// "yes", or the cause of the refusal.
std::string answer(const ModelDescription& model) {
  validate(model, "model");
  try {
    static_cast<void>(require_supported(model, "model"));
    return "yes";
  } catch (const base::Error& error) {
    CHECK(error.kind() == base::ErrorKind::malformed);
    return std::string(error.what()).substr(std::string_view("model: ").size());
  }
}

/// The tables of docs/families.md: the other cells of each row by the first.
std::map<std::string, std::vector<std::string>> read_tables() {
  std::map<std::string, std::vector<std::string>> rows;
  std::istringstream text(base::read_text_file(std::string(SLUICE_DOCS) + "/families.md"));
  const auto trimmed = [](const std::string& cell) {
    const std::size_t first = cell.find_first_not_of(' ');
    return first == std::string::npos ? "" : cell.substr(first, cell.find_last_not_of(' ') - first + 1);
  };
  for (std::string line; std::getline(text, line);) {
    if (!line.starts_with("| ") || !line.ends_with(" |")) continue;
    std::istringstream row(line.substr(1));
    std::vector<std::string> cells;
    for (std::string cell; std::getline(row, cell, '|');) cells.push_back(trimmed(cell));
    const std::string name = cells.front();
    cells.erase(cells.begin());
    rows[name] = std::move(cells);
  }
  return rows;
}

std::string row_of(const std::string& name, const std::vector<std::string>& cells) {
  std::string row = "| " + name + " |";
  for (const std::string& cell : cells) row += " " + cell + " |";
  return row;
}

std::string in_units(std::uint64_t bytes, double unit, const char* format) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), format, static_cast<double>(bytes) / unit);
  return text.data();
}

/// The cells of a model's row behind its name: weights, the tensors of its q4 container in GB, what a token
/// reads of them in GB, keys and values of 1,000 tokens in MB, and the tokens/s that 46 GB/s allow.
std::vector<std::string> cells_of(const tests::Family& family) {
  const ModelDescription& model = family.description;
  std::uint64_t weights = 0;
  std::uint64_t bytes = 0;
  std::vector<ContainerTensor> tensors;
  for (const ModelTensor& tensor : model_tensors(model)) {
    ContainerTensor stored;
    stored.length_bytes =
        storage_bytes(convert::storage_for(tensor, convert::types_for(convert::Quant::q4)), tensor.shape);
    weights += element_count(tensor.shape).value();
    bytes += stored.length_bytes;
    tensors.push_back(std::move(stored));
  }
  const auto layout = KvLayout::make(require_supported(model, "model"), KvType::bf16).value();
  const std::uint64_t bytes_of_page = layout.windows().size() * layout.page_bytes();
  const std::uint64_t token_bytes = decode_bytes_per_token(model, tensors);
  return {in_units(weights, 1e9, "%.2f G"), in_units(bytes, 1e9, "%.1f"), in_units(token_bytes, 1e9, "%.2f"),
          in_units(bytes_of_page * 1000 / kKvPageTokens, 1e6, "%.0f"),
          in_units(46'000'000'000, static_cast<double>(token_bytes), "%.1f")};
}

TEST_CASE("docs/families.md says for each feature and model what is computed") {
  auto rows = read_tables();
  for (const Feature& feature : features()) {
    ModelDescription model = describe(tests::tiny_params());
    feature.add(model);
    const std::string found = answer(model);
    REQUIRE_MESSAGE(rows.contains(feature.words), feature.words);
    CHECK_MESSAGE(rows[feature.words].back() == (found == "yes" ? "yes" : "no"), feature.words);
    rows.erase(feature.words);
  }
  for (const tests::Family& family : tests::families()) {
    CHECK(row_of(family.model, rows[family.model]) == row_of(family.model, cells_of(family)));
    rows.erase(family.model);
  }
  for (const char* heading : {"feature", "model"}) rows.erase(heading);
  for (const auto& [row, cell] : rows)
    FAIL_CHECK("docs/families.md has a row that the test does not know: " << row);
}

TEST_CASE("the sizes of a supported model are those of its description, layer by layer") {
  auto params = tests::tiny_params();
  params.sliding_window = 9;
  ModelDescription model = describe(params);
  LayerDescription dense = model.layer_kinds[0];
  dense.feed_forward = {DenseFeedForward{200}, {}};
  std::get<GroupedQueryAttention>(dense.mixer).window_tokens = 30;
  std::get<GroupedQueryAttention>(dense.mixer).rope->base = 5e5;
  model.add_layers(1, dense);
  const DecoderShape shape = require_supported(model, "m");
  REQUIRE(shape.layers.size() == 3);
  CHECK(shape.layers[0].router.has_value());
  CHECK(shape.layers[0].experts == 4);
  CHECK(shape.layers[0].experts_per_token == 2);
  CHECK(shape.layers[0].hidden_width == 128);
  CHECK(shape.layers[0].window_tokens() == 9);
  CHECK_FALSE(shape.layers[2].router.has_value());
  CHECK(shape.layers[2].experts == 1);
  CHECK(shape.layers[2].experts_per_token == 1);
  CHECK(shape.layers[2].hidden_width == 200);
  CHECK(shape.layers[0].rope == 0u);
  CHECK(shape.layers[2].rope == 1u);
  CHECK(shape.ropes[1].base == 5e5);
  CHECK(shape.layers[2].window_tokens() == 30);
  // Dense layers stay in memory beside layers with experts, and are streamed where there are no others.
  CHECK(shape.streams_experts(0));
  CHECK_FALSE(shape.streams_experts(2));
  params.num_experts = params.num_experts_per_tok = 0;
  CHECK(require_supported(describe(params), "m").streams_experts(0));
}

}  // namespace
}  // namespace sluice::runtime
