#include <doctest/doctest.h>

#include "tests/library/library_fixture.h"
#include "tests/support/check_error.h"

using namespace sluice;
using namespace sluice::library;
using base::ErrorKind;
using tests::LibraryFixture;
using tests::write_text;

namespace {

struct PublishedRelease : LibraryFixture {
  PublishedRelease() {
    write_text(release / "weights.bin", "weights");
    fetch::PublishRequest request;
    request.folder = release;
    request.facts.licence = "MIT";
    base::NoProgress progress;
    published = fetch::publish(request, progress, {});
    conversion.input = release;
  }

  void record(OriginPolicy policy) {
    record_origin(find_references(release, {}, context), policy, conversion, context);
  }

  const std::filesystem::path release = dir / "release";
  fetch::PublishResult published;
  convert::Request conversion;
};

}  // namespace

TEST_CASE("a release that matches its references is recorded with its info-hashes and digests") {
  PublishedRelease user;
  user.record(OriginPolicy::must_match);
  CHECK(user.conversion.release_name == "release");
  CHECK(user.conversion.licence == "MIT");
  CHECK(user.conversion.infohash_v1 == base::to_hex(user.published.layout.infohash_v1.value()));
  CHECK(user.conversion.infohash_v2 == base::to_hex(user.published.layout.infohash_v2.value()));
  REQUIRE(user.conversion.files.size() == 1);
  const auto& file = user.conversion.files[0];
  CHECK(file.path == "weights.bin");
  CHECK(file.length_bytes == 7);
  CHECK(file.sha256 == base::to_hex(base::hash<base::Sha256>(base::as_bytes("weights"))));
  CHECK(file.pieces_root == base::to_hex(user.published.layout.files[0].root.value()));
  CHECK(user.observer.warnings.empty());
}

TEST_CASE("a damaged release is refused naming its files, or converted with a record of the damage") {
  PublishedRelease user;
  write_text(user.release / "weights.bin", "changed");
  CHECK_ERROR(user.record(OriginPolicy::must_match), ErrorKind::verification,
              "verification FAILED: 1 damaged (7 B damaged); weights.bin: damaged, has the BEP 52 root ");
  CHECK(user.observer.warnings.empty());
  CHECK(user.conversion.damage.empty());
  user.record(OriginPolicy::allow_damaged);
  CHECK(user.conversion.release_name.empty());
  CHECK(user.conversion.files.empty());
  REQUIRE(user.conversion.damage.size() == 1);
  CHECK(user.conversion.damage[0].path == "weights.bin");
  CHECK(user.conversion.damage[0].state == "damaged");
  REQUIRE(user.observer.warnings.size() == 1);
  CHECK(user.observer.warnings[0].find("without naming its origin") != std::string::npos);
}

TEST_CASE("a size that proves damage needs no hashing, and a missing file is no damage") {
  PublishedRelease user;
  const auto fail = [&](const char* what) {
    user.observer.work_ends = 0;
    CHECK_ERROR(user.record(OriginPolicy::must_match), ErrorKind::verification, what);
    CHECK(user.observer.work_ends == 0);
  };
  write_text(user.release / "weights.bin", "short");
  fail("weights.bin: damaged, has 5 bytes, expected 7");
  std::filesystem::remove(user.release / "weights.bin");
  user.record(OriginPolicy::must_match);
  CHECK(user.conversion.release_name.empty());
  REQUIRE(user.observer.warnings.size() == 1);
  CHECK(user.observer.warnings[0].find("1 missing (7 B damaged); it is converted without") !=
        std::string::npos);
}

TEST_CASE("the damaged sources of a container are told from its provenance, whatever that holds") {
  const auto describe = [](const char* text) {
    return describe_damaged_sources(format::parse_json(text, "provenance"));
  };
  const std::string start = "was made of a release that its references prove to be damaged (--allow-damaged)";
  CHECK(describe("{}") == "");
  CHECK(describe(R"({"damaged_sources": 3})") == start);
  CHECK(describe(R"({"damaged_sources": [{"path": "a\u001b[2J"}, 1, {"path": "b"}]})") ==
        start + ": a\uFFFD[2J, b");
}

TEST_CASE("a release without references is converted with a warning") {
  LibraryFixture user;
  convert::Request conversion;
  conversion.input = user.dir / "release";
  for (const OriginPolicy policy : {OriginPolicy::allow_damaged, OriginPolicy::must_match}) {
    user.observer.warnings.clear();
    record_origin(find_references(conversion.input, {}, user.context), policy, conversion, user.context);
    CHECK(user.observer.warnings.size() == 1);
  }
  CHECK(conversion.release_name.empty());
}
