#include <doctest/doctest.h>

#include <map>

#include "convert/convert.h"
#include "tests/library/library_fixture.h"
#include "tests/support/check_error.h"
#include "tests/support/forged_container.h"
#include "tests/support/tiny_release.h"

using namespace sluice;
using namespace sluice::library;
using base::ErrorKind;
using tests::LibraryFixture;
using tests::sums_line;
using tests::write_text;

namespace fs = std::filesystem;

namespace {

void overwrite_byte(const fs::path& path, std::uint64_t offset_bytes) {
  std::string content = base::read_text_file(path, 64u << 20);
  content.at(offset_bytes) = static_cast<char>(content[offset_bytes] + 1);
  write_text(path, content);
}

/// A tiny release that is published, and a container made of it.
struct TinyModel : LibraryFixture {
  TinyModel() {
    fs::create_directories(release);
    tests::write_tiny_release(release, tests::tiny_params(), 1);
    fetch::PublishRequest request;
    request.folder = release;
    base::NoProgress progress;
    static_cast<void>(fetch::publish(request, progress, {}));
    convert::Request conversion;
    conversion.input = release;
    conversion.output = container;
    conversion.quant = convert::Quant::q8;
    record_origin(find_references(release, {}, context), OriginPolicy::must_match, conversion, context);
    const auto converted = convert::convert(conversion, progress, {});
    root = base::to_hex(converted.root);
    weights = base::to_hex(converted.tensors_sha256);
    observer.work_ends = 0;
  }

  Verification verify(const fs::path& path, bool repair = false) {
    VerifyRequest request;
    request.path = path;
    request.repair = repair;
    request.references = named;
    return verify_path(request, context);
  }

  const fs::path release = dir / "tiny";
  const fs::path container = dir / "tiny.sluice";
  /// The states of the links of a container's chain, by their names.
  static std::map<std::string, verify::LinkState> states(const Verification& verified) {
    std::map<std::string, verify::LinkState> found;
    for (const auto& link : verified.chain) found[link.link] = link.state;
    return found;
  }

  /// A manifest that names one container.
  void pin(const std::string& keys) {
    const auto manifest = dir / "pins.json";
    write_text(manifest,
               R"({"manifest": 1, "name": "tiny", "containers": [{"name": "tiny.sluice", "quant": "q8", )" +
                   keys + "}]}");
    named.manifest = manifest.string();
  }

  std::string root;
  std::string weights;
  NamedReferences named;
};

}  // namespace

TEST_CASE("a release is compared with its references, which are noted") {
  TinyModel user;
  const auto verified = user.verify(user.release);
  CHECK(verified.report.ok);
  CHECK(verified.has_references);
  CHECK(verified.chain.empty());
  CHECK(user.observer.notes.size() == 2);  // torrent and manifest
  CHECK(user.observer.notes[0] == "against " + (user.dir / "tiny.torrent").string());
  CHECK(summarize(verified.report).find(": proven by v1, v2 and sha256") != std::string::npos);

  overwrite_byte(user.release / "params.json", 3);
  const auto damaged = user.verify(user.release);
  CHECK_FALSE(damaged.report.ok);
  CHECK(summarize(damaged.report).find("verification FAILED: 1 damaged") != std::string::npos);
  CHECK(user.observer.damage.empty());  // nobody asked for a repair
}

TEST_CASE("a release without references is never ok, and every file is reported as unproven") {
  LibraryFixture user;
  write_text(user.dir / "release" / "weights.bin", "weights");
  VerifyRequest request;
  SUBCASE("folder") { request.path = user.dir / "release"; }
  SUBCASE("file") { request.path = user.dir / "release" / "weights.bin"; }
  const auto verified = verify_path(request, user.context);
  CHECK_FALSE(verified.has_references);
  CHECK_FALSE(verified.report.ok);
  REQUIRE(verified.report.files.size() == 1);
  CHECK(verified.report.files[0].state == verify::FileState::unproven);
  CHECK(verified.report.files[0].path == "weights.bin");
}

TEST_CASE("a container is compared with itself and with the release that it names") {
  TinyModel user;
  const auto verified = user.verify(user.container);
  CHECK(verified.report.ok);
  CHECK(verified.report.root_sha256 == user.root);
  CHECK_FALSE(verified.chain.empty());
  CHECK_FALSE(differs(verified.chain));
  REQUIRE(verified.signatures.size() == 1);
  CHECK(verified.signatures[0].state == SignatureState::none);
  CHECK(verified.root_pinned_by.empty());
}

TEST_CASE("a release that has changed since the conversion breaks the chain") {
  TinyModel user;
  overwrite_byte(user.release / "params.json", 3);
  const auto verified = user.verify(user.container);
  CHECK_FALSE(verified.report.ok);
  CHECK(differs(verified.chain));
}

TEST_CASE("a manifest pins the container's root, or refuses the container") {
  TinyModel user;
  user.pin(R"("root": ")" + user.root + "\"");
  const auto verified = user.verify(user.container);
  CHECK(verified.root_pinned_by == user.named.manifest);
  CHECK(verified.pinned == verify::PinCoverage::everything);
  user.pin(R"("root": ")" + std::string(64, '7') + "\"");
  CHECK_ERROR(user.verify(user.container), ErrorKind::verification, "is none of the 1 root");
}

TEST_CASE("a container with another model or tokenizer is not the pinned one, although its weights are") {
  TinyModel user;
  const fs::path forged = user.dir / "forged.sluice";
  const char* link = nullptr;
  bool older = false;
  SUBCASE("model") {
    tests::forge_container(user.container, forged,
                           [](auto& directory, auto&) { directory.description.norm.epsilon *= 8; });
    link = "parameters";
    SUBCASE("version 1") { older = true; }
    SUBCASE("version 2") {}
  }
  SUBCASE("parameters as released") {
    tests::forge_section(user.container, forged, "params.json", 3);
    link = "parameters";
  }
  SUBCASE("tokenizer") {
    tests::forge_section(user.container, forged, "tokenizer", 20);
    link = "tokenizer";
    SUBCASE("version 1") { older = true; }
    SUBCASE("version 2") {}
  }
  if (older) {
    tests::write_as_version_1(forged, forged.string() + ".1");
    fs::rename(forged.string() + ".1", forged);
  }
  CAPTURE(older);
  // The release tells, also without a pin.
  const auto verified = user.verify(forged);
  CHECK_FALSE(verified.report.ok);
  CHECK(user.states(verified).at(link) == verify::LinkState::differs);
  CHECK(user.states(verified).at("tensors") == verify::LinkState::checked);
  CHECK(summarize(verified.report).ends_with(": verification FAILED: a link of the chain differs"));
  // So does its manifest, when the files are not at hand.
  fs::rename(user.release, user.dir / "away");
  CHECK(user.states(user.verify(forged)).at(link) == verify::LinkState::differs);

  user.pin(R"("root": ")" + user.root + R"(", "tensors_sha256": ")" + user.weights + "\"");
  CHECK_ERROR(user.verify(forged), ErrorKind::verification,
              "its weights are those of tiny.sluice, its model parameters or its tokenizer are others");
}

TEST_CASE("a root of container version 1 pins the weights, and no more") {
  TinyModel user;
  const fs::path older = user.dir / "older.sluice";
  tests::write_as_version_1(user.container, older);
  user.pin(R"("root": ")" + user.weights + "\"");
  for (const fs::path& file : {user.container, older}) {
    const auto verified = user.verify(file);
    CHECK(verified.report.ok);
    CHECK(verified.pinned == verify::PinCoverage::weights);
    CHECK(verified.report.root_sha256 == user.root);
    CHECK(user.states(verified).at("root") == verify::LinkState::unknown);
    CHECK(verified.chain.back().detail.ends_with(
        "names " + user.weights +
        ", which pins the weights only; model parameters and tokenizer are not pinned"));
  }
  // A root of version 2 pins files of both versions, because it is computed from their content.
  user.pin(R"("root": ")" + user.root + "\"");
  CHECK(user.verify(older).pinned == verify::PinCoverage::everything);
  user.named = {};
  CHECK(user.verify(older).chain.back().detail.ends_with(
      "; the root of this file of version 1, " + user.weights +
      ", pins the weights only; model parameters and tokenizer are not pinned"));
}

TEST_CASE("a list that names the container verifies it as a file") {
  TinyModel user;
  const auto list = user.dir / "SHA256SUMS";
  write_text(list, sums_line(base::read_text_file(user.container, 64u << 20), "tiny.sluice"));
  user.named.sums = list.string();
  const auto verified = user.verify(user.container);
  CHECK(verified.report.ok);
  CHECK(verified.report.proven_by == std::vector<std::string>{"sha256"});
  CHECK(verified.report.root_sha256.empty());
}

TEST_CASE("a repair of a container reports the damage, writes it anew and compares again") {
  TinyModel user;
  const std::string whole = base::read_text_file(user.container, 64u << 20);
  overwrite_byte(user.container, whole.size() / 2);
  const auto verified = user.verify(user.container, true);
  CHECK(verified.report.ok);
  REQUIRE(verified.repaired);
  CHECK(verified.repaired->written_bytes == 1);
  CHECK(user.observer.damage.size() == 1);
  CHECK(user.observer.repairs.size() == 1);
  CHECK(user.observer.notes == std::vector{"out of " + user.release.string()});
  CHECK(base::read_text_file(user.container, 64u << 20) == whole);
}
