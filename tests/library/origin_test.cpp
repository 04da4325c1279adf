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

TEST_CASE("a release that differs is refused, or loses its origin with a warning") {
  PublishedRelease user;
  write_text(user.release / "weights.bin", "changed");
  CHECK_ERROR(user.record(OriginPolicy::must_match), ErrorKind::verification,
              "verification FAILED: 1 damaged");
  CHECK(user.observer.warnings.empty());
  user.record(OriginPolicy::may_differ);
  CHECK(user.conversion.release_name.empty());
  CHECK(user.conversion.files.empty());
  REQUIRE(user.observer.warnings.size() == 1);
  CHECK(user.observer.warnings[0].find("without naming its origin") != std::string::npos);
}

TEST_CASE("a release without references is a warning where a match is expected") {
  LibraryFixture user;
  convert::Request conversion;
  conversion.input = user.dir / "release";
  const auto policy_warnings = [&](OriginPolicy policy) {
    record_origin(find_references(conversion.input, {}, user.context), policy, conversion, user.context);
    return user.observer.warnings.size();
  };
  CHECK(policy_warnings(OriginPolicy::may_differ) == 0);
  CHECK(policy_warnings(OriginPolicy::must_match) == 1);
  CHECK(conversion.release_name.empty());
}
