// What only some families' feed-forwards have. families_test.cpp compares all of it, mixed at random, with a
// plain implementation in double.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/file.h"
#include "format/model_description.h"
#include "runtime/forward/engine_impl.h"
#include "runtime/runtime.h"
#include "tests/runtime/described_model.h"
#include "tests/support/check_error.h"
#include "tests/support/pth_writer.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"

using namespace sluice;
using base::ErrorKind;
using runtime::Model;
using runtime::Session;
using runtime::SessionOptions;
using runtime::TokenId;

namespace {

/// Two layers of four experts with biases, all of which every token uses.
format::ModelDescription with_biases() {
  format::GroupedQueryAttention attention;
  attention.heads = 2;
  attention.key_heads = 1;
  attention.head_dim = 24;
  format::Mixture mixture;
  mixture.experts = 4;
  mixture.experts_per_token = 4;
  mixture.width = 40;
  mixture.expert_biases = true;
  format::ModelDescription model;
  model.width = 72;
  model.vocabulary = tests::kTinyVocab;
  model.activation = format::ClampedSwiglu{};
  model.add_layers(2, {attention, {{}, mixture}});
  return model;
}

/// The same with a dense feed-forward beside the experts, which have norms of their own, and a router with
/// its own input.
format::ModelDescription with_dense_beside() {
  format::ModelDescription model = with_biases();
  format::LayerDescription& layer = model.layer_kinds[0];
  layer.feed_forward.dense = format::DenseFeedForward{100};
  layer.feed_forward.mixture->router.own_input = true;
  layer.post_norms = true;
  layer.output_scale = true;
  return model;
}

/// Feeds two tokens, with the experts mapped or read through a cache.
void feed(const Model& model, bool streams) {
  SessionOptions options;
  options.context_tokens = 10;
  options.thread_count = 2;
  Session session(model, options);
  if (streams) session.engine().impl().weights.stream(3);
  session.feed(std::vector<TokenId>{1, 2});
}

}  // namespace

TEST_CASE("biases of an expert are verified with it, mapped or read through a cache, and not before") {
  const tests::TempDir folder;
  const auto description = with_biases();
  const auto path = tests::write_container(folder / "m.sluice", description,
                                           tests::random_weights(description, 8), convert::Quant::q4);
  const std::string whole = base::read_text_file(path);
  for (const char* matrix : {"w1", "w3", "w2"}) {
    const std::string name = "layers.1.feed_forward.experts.2." + std::string(matrix) + ".bias";
    std::string bytes = whole;
    bytes[static_cast<std::size_t>(Model::open(path).impl().container.find(name)->offset_bytes) + 5] ^= 1;
    const auto damaged = folder / (std::string(matrix) + ".sluice");
    tests::write_plainly(damaged, bytes);
    for (const bool streams : {false, true}) {
      const Model model = Model::open(damaged);
      CHECK(model.proof_stats().experts_proven == 0);
      CHECK_ERROR(feed(model, streams), ErrorKind::verification, "layer 1, expert 2: tensor '" + name + "'");
    }
    CHECK_ERROR(Model::open(damaged, {.verify = runtime::Verify::full}), ErrorKind::verification, name);
  }
}

TEST_CASE(
    "a dense feed-forward beside experts is verified before it is used, mapped or beside an expert cache") {
  const tests::TempDir folder;
  const auto description = with_dense_beside();
  const auto path = tests::write_container(folder / "m.sluice", description,
                                           tests::random_weights(description, 8), convert::Quant::q4);
  const std::string name = "layers.1.feed_forward.w2.weight";
  std::string bytes = base::read_text_file(path);
  bytes[static_cast<std::size_t>(Model::open(path).impl().container.find(name)->offset_bytes) + 5] ^= 1;
  tests::write_plainly(path, bytes);
  for (const bool streams : {false, true})
    CHECK_ERROR(feed(Model::open(path), streams), ErrorKind::verification, name);
}

TEST_CASE("calibration sees what experts read behind their own norm") {
  const tests::TempDir folder;
  const auto description = with_dense_beside();
  auto weights = tests::random_weights(description, 8);
  // Of the experts' input, one value is left in each layer; dense feed-forward and router read all of theirs.
  for (const char* layer : {"layers.0", "layers.1"}) {
    auto& norm = weights.at(std::string(layer) + ".feed_forward.experts_norm.weight");
    std::ranges::fill(norm, 0.0f);
    norm[3] = 1;
  }
  const Model model =
      Model::open(tests::write_container(folder / "m.sluice", description, weights, convert::Quant::q8));
  runtime::Calibrator calibrator(model, "Once upon a time there was a little girl who had a red ball.",
                                 {.thread_count = 2, .context_tokens = 20, .isa = {}, .stop = {}});
  for (int layer = 0; layer < 2; ++layer) {
    for (const auto& expert : calibrator.next_layer().experts) {
      CHECK(expert.tokens == calibrator.tokens());
      CHECK(std::ranges::count_if(expert.up.sums, [](float sum) { return sum != 0; }) == 1);
      CHECK(std::ranges::count_if(expert.down.sums, [](float sum) { return sum > 0; }) >= 40);
    }
  }
}

TEST_CASE("a bias of an expert that is not finite is refused by name") {
  const tests::TempDir folder;
  const auto description = with_biases();
  const std::string name = "layers.0.feed_forward.experts.3.w2.bias";
  for (const float value : {NAN, std::numeric_limits<float>::infinity()}) {
    auto weights = tests::random_weights(description, 8);
    weights.at(name)[71] = value;
    const Model model =
        Model::open(tests::write_container(folder / "m.sluice", description, weights, convert::Quant::q8));
    for (const bool streams : {false, true})
      CHECK_ERROR(feed(model, streams), ErrorKind::malformed,
                  "tensor '" + name + "' holds values that are not finite");
  }
}
