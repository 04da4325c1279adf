// What only some families' feed-forwards have. families_test.cpp compares all of it, mixed at random, with a
// plain implementation in double.

#include <doctest/doctest.h>

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
