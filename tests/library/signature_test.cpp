#include <doctest/doctest.h>

#include "library/signature_verifier.h"
#include "tests/library/library_fixture.h"
#include "tests/support/check_error.h"

using namespace sluice;
using namespace sluice::library;
using base::ErrorKind;
using tests::LibraryFixture;

namespace {

struct SignedFile : LibraryFixture {
  SignedFile() {
    tests::write_text(file, content);
    sign_file(file, key);
  }

  SignatureReport verify(const std::string& only_key = "") {
    return SignatureVerifier(only_key, context).verify(file, base::as_bytes(content));
  }

  const std::string content = "{\"manifest\": 1}";
  const base::SecretKey key = base::new_secret_key();
  const std::filesystem::path file = dir / "release.manifest.json";
  const std::filesystem::path public_file = dir / "alice.pub";
};

}  // namespace

TEST_CASE("trusted keys are kept under a name, listed, and never replaced by another key") {
  LibraryFixture user;
  const auto alice = base::new_secret_key().public_key();
  const auto bob = base::new_secret_key().public_key();
  CHECK(list_trusted_keys(user.context).empty());
  const auto kept = add_trusted_key("bob", bob, user.folders);
  CHECK(kept == user.folders.trusted_keys / "bob.pub");
  add_trusted_key("alice", alice, user.folders);
  CHECK(add_trusted_key("alice", alice, user.folders).filename() == "alice.pub");  // the same key again
  CHECK_ERROR(add_trusted_key("alice", bob, user.folders), ErrorKind::usage, "another key already");

  tests::write_text(user.folders.trusted_keys / "notes.pub", "not a key");
  const auto keys = list_trusted_keys(user.context);
  REQUIRE(keys.size() == 2);
  CHECK(keys[0].name == "alice.pub");
  CHECK(keys[0].key == alice);
  CHECK(keys[1].key == bob);
  REQUIRE(user.observer.warnings.size() == 1);
  CHECK(user.observer.warnings[0].find("notes.pub") != std::string::npos);
}

TEST_CASE("without a folder for keys none is trusted and none can be kept") {
  LibraryFixture user;
  user.folders.trusted_keys.clear();
  CHECK(list_trusted_keys(user.context).empty());
  CHECK_ERROR(add_trusted_key("alice", base::new_secret_key().public_key(), user.folders), ErrorKind::usage,
              "no folder for trusted keys");
}

TEST_CASE("a key is given by its file or by its line") {
  const LibraryFixture user;
  const auto key = base::new_secret_key().public_key();
  tests::write_text(user.dir / "k.pub", base::to_text(key));
  CHECK(find_key((user.dir / "k.pub").string()) == key);
  CHECK(find_key(base::to_line(key)) == key);
  CHECK_ERROR(find_key("nonsense"), ErrorKind::usage, "neither a key file nor a key's line");
}

TEST_CASE("a file without a signature is reported as such, and refused when a key was asked for") {
  LibraryFixture user;
  const auto file = user.dir / "SHA256SUMS";
  SignatureVerifier any("", user.context);
  CHECK(any.verify(file, {}).state == SignatureState::none);
  CHECK(user.observer.signatures.empty());
  CHECK_FALSE(find_signer(file));

  SignatureVerifier only(base::to_line(base::new_secret_key().public_key()), user.context);
  CHECK_ERROR(only.verify(file, {}), ErrorKind::untrusted, "is not signed");
  REQUIRE(user.observer.signatures.size() == 1);
  CHECK(user.observer.signatures[0].state == SignatureState::none);
}

TEST_CASE("a trusted key's signature is valid, and the observer is told") {
  SignedFile user;
  add_trusted_key("alice", user.key.public_key(), user.folders);
  const auto report = user.verify();
  CHECK(report.state == SignatureState::valid);
  CHECK(report.trusted_as == "alice.pub");
  CHECK(report.comment == "released");
  REQUIRE(user.observer.signatures.size() == 1);
  CHECK(user.observer.signatures[0].state == SignatureState::valid);
  CHECK(user.observer.explanations.empty());
  CHECK(find_signer(user.file) == base::to_string(user.key.id));
  CHECK(to_sentence(report).find("trusted as alice.pub: released") != std::string::npos);
}

TEST_CASE("a signature over other content is bad, however much its key is trusted") {
  SignedFile user;
  add_trusted_key("alice", user.key.public_key(), user.folders);
  SignatureVerifier verifier("", user.context);
  CHECK_ERROR(verifier.verify(user.file, base::as_bytes("{}")), ErrorKind::untrusted, "bad signature");
  REQUIRE(user.observer.signatures.size() == 1);
  CHECK(user.observer.signatures[0].state == SignatureState::bad);
}

TEST_CASE("only the key that was asked for counts") {
  SignedFile user;
  const auto other = base::new_secret_key().public_key();
  add_trusted_key("alice", user.key.public_key(), user.folders);
  CHECK_ERROR(user.verify(base::to_line(other)), ErrorKind::untrusted, "which --key asks for");
  CHECK(user.verify(base::to_line(user.key.public_key())).trusted_as == "--key");
}

TEST_CASE("an unknown key is refused when nobody is asked or the answer is no") {
  SignedFile user;
  CHECK_ERROR(user.verify(), ErrorKind::untrusted, "which you do not trust");
  CHECK(user.observer.explanations.empty());  // no key lies beside the file: there is nothing to ask

  tests::write_text(user.public_file, base::to_text(user.key.public_key()));
  CHECK_ERROR(user.verify(), ErrorKind::untrusted, "which you do not trust");
  REQUIRE(user.observer.explanations.size() == 1);
  CHECK(user.observer.explanations[0].find(base::to_line(user.key.public_key())) != std::string::npos);
  CHECK(user.observer.signatures.back().state == SignatureState::unknown_key);
  CHECK(list_trusted_keys(user.context).empty());
}

TEST_CASE("a yes keeps the key that lies beside the file") {
  SignedFile user;
  tests::write_text(user.public_file, base::to_text(user.key.public_key()));
  user.observer.answer = true;
  CHECK(user.verify().trusted_as == "alice.pub");
  user.observer.answer = false;
  CHECK(user.verify().state == SignatureState::valid);  // from now on nobody is asked
  CHECK(user.observer.explanations.size() == 1);
}

TEST_CASE("a key beside the file that did not sign it is not offered") {
  SignedFile user;
  auto impostor = base::new_secret_key().public_key();
  impostor.id = user.key.id;  // whoever makes a key chooses its id
  tests::write_text(user.public_file, base::to_text(impostor));
  user.observer.answer = true;
  CHECK_ERROR(user.verify(), ErrorKind::untrusted, "which you do not trust");
  CHECK(user.observer.explanations.empty());
}
