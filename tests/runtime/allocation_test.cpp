// What a session of a mapped model needs it takes at its start: the forward pass allocates nothing.

#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <random>
#include <span>
#include <vector>

#include "runtime/runtime.h"
#include "tests/runtime/described_model.h"
#include "tests/support/make_container.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"

using namespace sluice;

namespace {

std::atomic<std::size_t> allocations = 0;

}  // namespace

// Of this whole program, all forms for single objects, since what one gives goes back by another; array forms
// call these, or have their own counterparts. Not inlined, or GCC would see free() of what came from new.
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(bytes != 0 ? bytes : 1);
}
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  if (void* const memory = operator new(bytes, std::nothrow)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
  ++allocations;
  const auto unit = static_cast<std::size_t>(alignment);
  if (void* const memory = std::aligned_alloc(unit, (bytes + unit - 1) / unit * unit)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}

namespace {

void check_no_allocations(const runtime::Model& model) {
  runtime::SessionOptions options;
  options.thread_count = 2;
  options.context_tokens = 128;
  options.prefill_chunk_tokens = 64;
  options.matmul = runtime::MatmulEngine::own;  // oneDNN allocates in every call
  std::size_t before = allocations;
  runtime::Session session(model, options);
  CHECK(allocations > before);  // or nothing would be counted
  std::mt19937_64 random(3);
  std::vector<runtime::TokenId> ids(100);
  for (auto& id : ids) id = static_cast<runtime::TokenId>(random() % tests::kTinyVocab);
  before = allocations;
  for (const std::size_t prompt : {10u, 80u, 41u}) {
    session.reset();
    session.feed(std::span(ids).first(prompt));
    for (std::size_t i = prompt; i < ids.size(); ++i) session.feed(std::span(ids).subspan(i, 1));
  }
  CHECK(allocations == before);
}

/// A layer of latent attention with queries in one step, and one with queries in two.
format::ModelDescription latent_model() {
  format::LatentAttention attention;
  attention.heads = 6;
  attention.latent_rank = 70;
  attention.plain_dims = 40;
  attention.value_dims = 50;
  attention.rope.rotary_dims = 12;
  format::ModelDescription model;
  model.width = 72;
  model.vocabulary = tests::kTinyVocab;
  model.add_layers(1, {attention, {format::DenseFeedForward{100}, {}}});
  attention.query_rank = 90;
  model.add_layers(1, {attention, {format::DenseFeedForward{100}, {}}});
  return model;
}

}  // namespace

TEST_CASE("prompts and tokens allocate nothing") {
  const tests::TempDir folder;
  tests::write_tiny_release(folder.path(), tests::tiny_params(), 6);
  for (const auto quant : {convert::Quant::bf16, convert::Quant::q8, convert::Quant::q4}) {
    CAPTURE(static_cast<int>(quant));
    runtime::ModelOptions options;
    options.verify = runtime::Verify::full;  // proofs allocate, and are then done
    check_no_allocations(
        runtime::Model::open(tests::make_container(folder.path(), folder / "m.sluice", quant), options));
    const auto latent = latent_model();
    check_no_allocations(runtime::Model::open(
        tests::write_container(folder / "latent.sluice", latent, tests::random_weights(latent, 2), quant),
        options));
  }
}

TEST_CASE("tokens of bf16 containers allocate nothing with any engine: oneDNN has no part in few rows") {
  const tests::TempDir folder;
  tests::write_tiny_release(folder.path(), tests::tiny_params(), 6);
  runtime::ModelOptions model_options;
  model_options.verify = runtime::Verify::full;
  const auto model = runtime::Model::open(
      tests::make_container(folder.path(), folder / "m.sluice", convert::Quant::bf16), model_options);
  runtime::SessionOptions options;
  options.thread_count = 2;
  options.context_tokens = 128;
  options.matmul = runtime::MatmulEngine::onednn;
  runtime::Session session(model, options);
  const std::vector<runtime::TokenId> ids(64, 5);
  session.feed(std::span(ids).first(32));
  const std::size_t before = allocations;
  for (std::size_t i = 32; i < ids.size(); ++i) session.feed(std::span(ids).subspan(i, 1));
  session.feed(std::span(ids).first(7));
  CHECK(allocations == before);
}
