// The file of a prompt's keys and values: bad bytes, and that it changes no bit of what is computed.

#include "runtime/generate/prompt_cache.h"

#include <doctest/doctest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/hasher.h"
#include "tests/support/check_error.h"
#include "tests/support/make_container.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"

using namespace sluice;
using base::ErrorKind;
using runtime::KvType;
using runtime::Model;
using runtime::Session;
using runtime::TokenId;

namespace {

Model make_model(const tests::TempDir& folder, const format::MistralParams& params, convert::Quant quant,
                 std::uint64_t seed) {
  tests::write_tiny_release(folder.path(), params, seed);
  return Model::open(tests::make_container(folder.path(), folder / "m.sluice", quant));
}

Session make_session(const Model& model, KvType kv, std::uint64_t context = 200, bool keep = true) {
  runtime::SessionOptions options;
  options.thread_count = 2;
  options.context_tokens = context;
  options.prefill_chunk_tokens = 16;
  options.kv = kv;
  options.keep_positions = keep;
  return Session(model, options);
}

std::vector<TokenId> random_tokens(std::size_t count, std::mt19937_64& random) {
  std::vector<TokenId> ids{1};
  while (ids.size() < count) ids.push_back(static_cast<TokenId>(random() % tests::kTinyVocab));
  return ids;
}

/// The bits of the logits after the prompt, and after some more tokens one by one.
std::vector<std::uint32_t> bits_after(Session& session, std::span<const TokenId> prompt) {
  std::vector<std::uint32_t> bits;
  const auto keep = [&](std::span<const float> logits) {
    for (const float logit : logits) std::memcpy(&bits.emplace_back(), &logit, sizeof(logit));
  };
  keep(session.feed(prompt.subspan(static_cast<std::size_t>(session.position()))));
  for (const TokenId token : {17, 3, 900}) keep(session.feed(std::span(&token, 1)));
  return bits;
}

/// A small valid file.
std::vector<std::byte> sample() {
  runtime::PromptCacheIdentity identity;
  identity.kv = KvType::q8;
  identity.isa = runtime::Isa::avx2;
  identity.position_bytes = 6;
  identity.state_bytes = 8;
  identity.root.bytes[0] = std::byte{1};
  auto file = runtime::encode_prompt_cache_head(identity, std::vector<TokenId>{1, 700, 5},
                                                std::vector<std::uint64_t>{1, 3});
  for (int i = 0; i < 18 + 16; ++i) file.push_back(static_cast<std::byte>(i));
  const auto digest = base::hash<base::Sha256>(file);
  file.insert(file.end(), digest.bytes.begin(), digest.bytes.end());
  return file;
}

void sign_again(std::vector<std::byte>& file) {
  const std::size_t end = file.size() - base::Sha256::kBytes;
  std::ranges::copy(base::hash<base::Sha256>(base::Bytes(file).first(end)).bytes, file.begin() + end);
}

}  // namespace

TEST_CASE("a prompt cache is read back, and refused when it is cut or any bit differs") {
  const auto file = sample();
  const auto content = runtime::parse_prompt_cache(file, "f");
  CHECK(content.tokens == std::vector<TokenId>{1, 700, 5});
  CHECK(content.identity.kv == KvType::q8);
  CHECK(content.identity.isa == runtime::Isa::avx2);
  CHECK(content.rows.size() == 18);
  CHECK(content.rows[17] == std::byte{17});
  CHECK(content.state_positions == std::vector<std::uint64_t>{1, 3});
  CHECK(content.states.size() == 16);
  CHECK(content.states[0] == std::byte{18});
  for (std::size_t size = 0; size < file.size(); ++size)
    CHECK_ERROR(runtime::parse_prompt_cache(base::Bytes(file).first(size), "f"), ErrorKind::malformed, "f: ");
  for (std::size_t i = 0; i < file.size(); ++i) {
    auto damaged = file;
    damaged[i] ^= std::byte{4};
    CHECK_ERROR(runtime::parse_prompt_cache(damaged, "f"), ErrorKind::malformed, "f: ");
  }
}

TEST_CASE("wrong values are told, also under a right digest") {
  struct Case {
    std::size_t offset;
    std::uint64_t value;
    std::size_t bytes;
    const char* message;
  };
  const Case cases[] = {
      {0, 0x4B5A, 2, "is no prompt cache"},
      {8, 2, 4, "has version 2, expected 3"},
      {12, 3, 4, "has values that no version 3 has"},
      {16, 4, 4, "has values that no version 3 has"},
      {20, 1, 4, "has values that no version 3 has"},
      {88, 4, 8, "has 214 bytes, which 4 tokens and 2 states do not make"},
      {88, ~std::uint64_t{0}, 8, "tokens and 2 states do not make"},
      {96, 7, 8, "which 3 tokens and 2 states do not make"},
      {96, ~std::uint64_t{0}, 8, "which 3 tokens and 2 states do not make"},
      {104, 9, 8, "which 3 tokens and 2 states do not make"},
      {104, ~std::uint64_t{0}, 8, "which 3 tokens and 2 states do not make"},
      {112, 1, 8, "which 3 tokens and 1 states do not make"},
      {112, ~std::uint64_t{0}, 8, "do not make"},
      {132, 0, 8, "has a state after 0 of 3 tokens out of order"},
      {132, 3, 8, "has a state after 3 of 3 tokens out of order"},
      {140, 4, 8, "has a state after 4 of 3 tokens out of order"},
  };
  for (const Case& c : cases) {
    auto file = sample();
    std::memcpy(file.data() + c.offset, &c.value, c.bytes);
    sign_again(file);
    CHECK_ERROR(runtime::parse_prompt_cache(file, "f"), ErrorKind::malformed, c.message);
  }
}

TEST_CASE("logits are the same bits with a prompt cache and without, for every shared prefix") {
  std::mt19937_64 random(23);
  for (const bool window : {false, true}) {
    for (const auto quant : {convert::Quant::q8, convert::Quant::q4}) {
      for (const KvType kv : {KvType::bf16, KvType::q8, KvType::f32}) {
        CAPTURE(window);
        CAPTURE(static_cast<int>(quant));
        CAPTURE(std::string(to_string(kv)));
        const tests::TempDir folder;
        format::MistralParams params = tests::tiny_params();
        if (window) params.sliding_window = 11;
        const Model model = make_model(folder, params, quant, random());
        const auto first = random_tokens(90, random);
        Session writer = make_session(model, kv);
        const auto plain = bits_after(writer, first);
        save_prompt_cache(writer, folder / "cache", first);

        for (const std::size_t shared : {std::size_t{1}, std::size_t{40}, std::size_t{89}, std::size_t{90}}) {
          auto prompt = random_tokens(110, random);
          std::ranges::copy(std::span(first).first(shared), prompt.begin());
          if (shared < 90 && prompt[shared] == first[shared]) ++prompt[shared];
          Session with = make_session(model, kv, 150);
          const auto use = load_prompt_cache(with, folder / "cache", prompt);
          CHECK(!use.warning);
          CHECK(use.reused_tokens == shared);
          CHECK(use.cached_tokens == shared);
          Session without = make_session(model, kv, 180, /*keep=*/false);
          CHECK(bits_after(with, prompt) == bits_after(without, prompt));
        }
        // The same prompt, and one that is all in the file: the last token is computed again.
        Session again = make_session(model, kv, 93);
        CHECK(load_prompt_cache(again, folder / "cache", first).reused_tokens == 89);
        CHECK(bits_after(again, first) == plain);
        Session shorter = make_session(model, kv, 40);
        const auto use = load_prompt_cache(shorter, folder / "cache", std::span(first).first(30));
        CHECK(use.reused_tokens == 29);
        CHECK(use.cached_tokens == 30);
      }
    }
  }
}

TEST_CASE("a prompt cache that does not fit is not used and told; what is none is an error") {
  const tests::TempDir folder;
  const tests::TempDir other_folder;
  std::mt19937_64 random(4);
  const Model model = make_model(folder, tests::tiny_params(), convert::Quant::q8, 1);
  const Model other = make_model(other_folder, tests::tiny_params(), convert::Quant::q8, 2);
  const auto prompt = random_tokens(20, random);
  const auto path = folder / "cache";
  Session writer = make_session(model, KvType::bf16);
  writer.feed(prompt);
  save_prompt_cache(writer, path, prompt);

  const auto use = [&](const Model& m, KvType kv) {
    Session session = make_session(m, kv);
    const auto result = load_prompt_cache(session, path, prompt);
    CHECK(session.position() == result.reused_tokens);
    return result;
  };
  CHECK(use(model, KvType::bf16).reused_tokens == 19);
  CHECK(use(model, KvType::q8).warning.value().find("was made with keys and values as bf16") !=
        std::string::npos);
  CHECK(use(other, KvType::bf16).warning.value().find("was made with another model") != std::string::npos);
  const auto good = base::read_file(path);
  base::write_file(path, base::Bytes(good).first(good.size() - 1));
  CHECK(use(model, KvType::bf16).warning.value().find("states do not make") != std::string::npos);
  auto damaged = good;
  damaged[good.size() / 2] ^= std::byte{1};
  base::write_file(path, damaged);
  CHECK(use(model, KvType::bf16).warning.value().find("does not match its SHA-256") != std::string::npos);
  CHECK(use(model, KvType::bf16).reused_tokens == 0);
  base::write_file(path, base::as_bytes("a letter"));
  CHECK_ERROR(use(model, KvType::bf16), ErrorKind::malformed, "is no prompt cache");
  base::write_file(path, {});
  CHECK(use(model, KvType::bf16).reused_tokens == 0);
  CHECK(!use(model, KvType::bf16).warning);
}
