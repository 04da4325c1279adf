// What a model proves when it is used, and what it remembers of it.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "format/container_proofs.h"
#include "format/container_reader.h"
#include "runtime/runtime.h"
#include "tests/support/as_nobody.h"
#include "tests/support/check_error.h"
#include "tests/support/make_container.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"

using namespace sluice;
using base::ErrorKind;
using format::ContainerReader;
using format::ProofStats;
using runtime::Model;
using runtime::ModelOptions;
using runtime::Session;
using runtime::TokenId;
using runtime::Verify;
using tests::TempDir;
namespace fs = std::filesystem;

namespace {

const std::vector<TokenId> kPrompt = {1, 400, 500, 600, 700};

/// A converted tiny model, and where its record is kept.
struct Converted {
  explicit Converted(convert::Quant quant = convert::Quant::q4) {
    auto params = tests::tiny_params();
    params.num_experts = 16;  // so that a short prompt leaves some unused
    tests::write_tiny_release(dir.path(), params, 4);
    path = tests::make_container(dir.path(), dir / "m.sluice", quant);
  }

  [[nodiscard]] ModelOptions options(Verify verify = Verify::first_use) const {
    return {.verify = verify, .thread_count = 2, .proof_records = {record}};
  }

  void flip(std::uint64_t at_byte) const {
    base::File file = base::File::open_update(path);
    std::byte b{};
    file.read_exact_at(at_byte, {&b, 1});
    b ^= std::byte{4};
    file.write_at(at_byte, {&b, 1});
  }

  void flip_in(const std::string& tensor) const {
    flip(ContainerReader::open(path).find(tensor)->offset_bytes + 100);
  }

  TempDir dir;
  fs::path path;
  fs::path record = dir / ".sluice" / "m.sluice.proofs";
};

struct Used {
  std::vector<float> logits;
  std::set<std::pair<std::uint64_t, std::uint32_t>> experts;  ///< (layer, expert)
  ProofStats stats;
};

Used use(const fs::path& path, const ModelOptions& options, unsigned threads = 2) {
  Used used;
  const Model model = Model::open(path, options);
  runtime::SessionOptions session_options;
  session_options.thread_count = threads;
  session_options.on_routing = [&](const runtime::RoutingEvent& event) {
    for (const std::uint32_t expert : event.experts) used.experts.insert({event.layer, expert});
  };
  Session session(model, session_options);
  const auto logits = session.feed(kPrompt);
  used.logits.assign(logits.begin(), logits.end());
  used.stats = model.proof_stats();
  return used;
}

bool same_bits(const Used& a, const Used& b) {
  return a.logits.size() == b.logits.size() &&
         std::memcmp(a.logits.data(), b.logits.data(), a.logits.size() * sizeof(float)) == 0;
}

std::string expert_tensor(std::uint64_t layer, std::uint64_t expert) {
  return "layers." + std::to_string(layer) + ".feed_forward.experts." + std::to_string(expert) + ".w2.weight";
}

}  // namespace

TEST_CASE("experts are proven when they are used, no others, and only once") {
  const Converted model;
  const auto reader = ContainerReader::open(model.path);
  const Used first = use(model.path, model.options());
  CHECK(first.stats.expert_count == reader.experts().size());
  CHECK(first.stats.experts_proven == first.experts.size());
  CHECK(first.stats.experts_proven < first.stats.expert_count);
  CHECK(first.stats.tensors_proven == first.stats.tensor_count);
  CHECK(first.stats.experts_known == 0);
  std::uint64_t bytes = 0;
  for (const auto& tensor : reader.tensors()) {
    const auto expert = std::ranges::find_if(first.experts, [&](const auto& used) {
      return tensor.name.starts_with("layers." + std::to_string(used.first) + ".feed_forward.experts." +
                                     std::to_string(used.second) + ".");
    });
    if (expert != first.experts.end() || tensor.name.find("experts.") == std::string::npos)
      bytes += tensor.length_bytes;
  }
  CHECK(first.stats.bytes == bytes);

  const Used second = use(model.path, model.options());
  CHECK(second.stats.experts_proven == 0);
  CHECK(second.stats.tensors_proven == 0);
  CHECK(second.stats.bytes == 0);
  CHECK(second.stats.experts_known == first.stats.experts_proven);
  CHECK(second.stats.tensors_known == first.stats.tensor_count);
  CHECK(second.stats.record == model.record);

  const Used full = use(model.path, model.options(Verify::full));
  CHECK(full.stats.experts_proven == full.stats.expert_count);
  CHECK(full.stats.experts_known == 0);
  const Used after_full = use(model.path, model.options());
  CHECK(after_full.stats.experts_known == full.stats.expert_count);
  const Used off = use(model.path, model.options(Verify::off));
  CHECK(off.stats.experts_proven + off.stats.tensors_proven + off.stats.bytes == 0);
  for (const Used* other : {&second, &full, &after_full, &off}) CHECK(same_bits(first, *other));
}

TEST_CASE("one wrong bit is found before anything is computed with it, and named") {
  const Converted model;
  const Used good = use(model.path, {});
  const auto [layer, expert] = *good.experts.rbegin();
  std::uint32_t unused = 0;
  while (good.experts.contains({layer, unused})) ++unused;
  const std::string place =
      "m.sluice: layer " + std::to_string(layer) + ", expert " + std::to_string(expert) + ": tensor '";
  const std::map<std::string, std::string> names = {
      {expert_tensor(layer, expert), place + expert_tensor(layer, expert)},
      {"tok_embeddings.weight", "m.sluice: tensor 'tok_embeddings.weight"},
      {"norm.weight", "m.sluice: tensor 'norm.weight"},
      {"layers.1.ffn_norm.weight", "tensor 'layers.1.ffn_norm.weight"},
      {"layers.0.feed_forward.gate.weight", "tensor 'layers.0.feed_forward.gate.weight"},
      {"layers.1.attention.wo.weight", "tensor 'layers.1.attention.wo.weight"},
      {"output.weight", "tensor 'output.weight"},
  };
  for (const auto& [tensor, expected] : names) {
    CAPTURE(tensor);
    model.flip_in(tensor);
    for (const unsigned threads : {1u, 3u})
      CHECK_ERROR(use(model.path, model.options(), threads), ErrorKind::verification,
                  expected + "' does not match its digest");
    CHECK_ERROR(Model::open(model.path, model.options(Verify::full)), ErrorKind::verification, expected);
    model.flip_in(tensor);
  }
  // What is not used does no harm, and full finds it all the same.
  model.flip_in(expert_tensor(layer, unused));
  CHECK(same_bits(use(model.path, model.options()), good));
  CHECK_ERROR(Model::open(model.path, model.options(Verify::full)), ErrorKind::verification,
              expert_tensor(layer, unused));
  CHECK_FALSE(same_bits(use(model.path, {.verify = Verify::off}), Used{}));
}

TEST_CASE("a record counts only for the state of the file that was proven") {
  const Converted model;
  const Used good = use(model.path, model.options());
  REQUIRE(use(model.path, model.options()).stats.bytes == 0);
  const auto [layer, expert] = *good.experts.begin();

  SUBCASE("changed in place, with the old time set again") {
    struct stat before {};
    REQUIRE(::stat(model.path.c_str(), &before) == 0);
    model.flip_in(expert_tensor(layer, expert));
    const timespec times[2] = {before.st_atim, before.st_mtim};
    REQUIRE(::utimensat(AT_FDCWD, model.path.c_str(), times, 0) == 0);
    CHECK_ERROR(use(model.path, model.options()), ErrorKind::verification, expert_tensor(layer, expert));
  }
  SUBCASE("replaced by a file of the same size") {
    auto content = base::read_file(model.path);
    const auto at = ContainerReader::open(model.path).find(expert_tensor(layer, expert))->offset_bytes;
    content[static_cast<std::size_t>(at)] ^= std::byte{1};
    base::write_file(model.path, content);
    CHECK_ERROR(use(model.path, model.options()), ErrorKind::verification, expert_tensor(layer, expert));
  }
  SUBCASE("the record of another file") {
    const Converted other;
    static_cast<void>(use(other.path, other.options()));
    fs::copy_file(other.record, model.record, fs::copy_options::overwrite_existing);
    CHECK(use(model.path, model.options()).stats.experts_known == 0);
  }
  SUBCASE("a record that was tampered with, or cut") {
    auto content = base::read_file(model.record);
    content[125] ^= std::byte{2};
    base::write_file(model.record, content);
    const Used again = use(model.path, model.options());
    CHECK(again.stats.experts_known == 0);
    CHECK(again.stats.experts_proven == good.stats.experts_proven);
    CHECK(use(model.path, model.options()).stats.bytes == 0);  // a new one was written
    base::File::open_update(model.record).resize(100);
    CHECK(use(model.path, model.options()).stats.experts_known == 0);
  }
}

TEST_CASE("a record that another user can have written counts for nothing, and is replaced") {
  const Converted model;
  const Used good = use(model.path, model.options());
  SUBCASE("others may write it") {
    fs::permissions(model.record, static_cast<fs::perms>(0646));
    CHECK(use(model.path, model.options()).stats.experts_known == 0);
    CHECK(use(model.path, model.options()).stats.experts_known == good.experts.size());
  }
  SUBCASE("others own it") {
    if (::geteuid() != 0) return;
    REQUIRE(::chown(model.record.c_str(), 65534, 65534) == 0);
    CHECK(use(model.path, model.options()).stats.experts_known == 0);
    CHECK(use(model.path, model.options()).stats.experts_known == good.experts.size());
    // Root's counts for everybody.
    fs::permissions(model.dir.path(), static_cast<fs::perms>(0755));
    const tests::AsNobody nobody;
    CHECK(use(model.path, model.options()).stats.experts_known == good.experts.size());
  }
}

TEST_CASE("what was proven before an error is remembered, what failed is not") {
  const Converted model;
  const Used good = use(model.path, {});
  const auto [layer, expert] = *good.experts.rbegin();
  model.flip_in(expert_tensor(layer, expert));
  CHECK_ERROR(use(model.path, model.options()), ErrorKind::verification, "expert");
  CHECK_ERROR(use(model.path, model.options()), ErrorKind::verification, expert_tensor(layer, expert));
  const Model opened = Model::open(model.path, model.options());
  CHECK(opened.proof_stats().experts_known > 0);
  CHECK(opened.proof_stats().experts_known < good.experts.size());
}

TEST_CASE("the record goes to the first place that can be written, and nowhere is no error") {
  const Converted model;
  const fs::path read_only = model.dir / "read-only";
  fs::create_directory(read_only);
  fs::permissions(read_only, fs::perms::owner_read | fs::perms::owner_exec);
  fs::permissions(model.dir.path(), fs::perms::all);
  const tests::AsNobody nobody;
  ModelOptions options = model.options();
  options.proof_records = {read_only / "m.proofs", model.dir / "cache" / "m.proofs"};
  CHECK(use(model.path, options).stats.record.empty());  // it is written when the model is closed
  CHECK(fs::exists(model.dir / "cache" / "m.proofs"));
  const Used again = use(model.path, options);
  CHECK(again.stats.bytes == 0);
  CHECK(again.stats.record == model.dir / "cache" / "m.proofs");
  options.proof_records = {read_only / "m.proofs"};
  CHECK(use(model.path, options).stats.bytes > 0);
  CHECK(use(model.path, options).stats.bytes > 0);
}

TEST_CASE("two processes that prove different experts remember both") {
  const Converted model;
  const auto reader = ContainerReader::open(model.path);
  const auto options = [&] {
    return format::ContainerProofs::Options{.record_paths = {model.record}, .check = {}};
  };
  base::WorkerPool pool(2);
  {
    format::ContainerProofs one(reader, options());
    format::ContainerProofs other(reader, options());
    const std::size_t first[] = {0, 3};
    const std::size_t second[] = {5};
    one.prove(first, pool);
    other.prove(second, pool);
  }
  const format::ContainerProofs later(reader, options());
  std::vector<std::size_t> known;
  for (std::size_t part = 0; part < later.part_count(); ++part)
    if (later.proven(part)) known.push_back(part);
  CHECK(known == std::vector<std::size_t>{0, 3, 5});
}

TEST_CASE("sessions on several threads may prove the same model at once") {
  const Converted model;
  const Used good = use(model.path, {});
  const Model shared = Model::open(model.path, model.options());
  std::vector<std::vector<float>> logits(4);
  std::vector<std::thread> threads;
  for (auto& out : logits) {
    threads.emplace_back([&shared, &out] {
      runtime::SessionOptions options;
      options.thread_count = 2;
      Session session(shared, options);
      const auto found = session.feed(kPrompt);
      out.assign(found.begin(), found.end());
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& found : logits) CHECK(found == good.logits);
  CHECK(shared.proof_stats().experts_proven == good.stats.experts_proven);
  CHECK(shared.proof_stats().tensors_proven == good.stats.tensors_proven);
}
