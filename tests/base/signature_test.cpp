#include "base/signature.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "base/base64.h"
#include "base/hasher.h"
#include "tests/support/check_error.h"

using namespace sluice::base;

namespace {

template <std::size_t N>
std::array<std::byte, N> bytes_of(std::string_view hex) {
  std::array<std::byte, N> bytes;
  REQUIRE(from_hex(hex, bytes));
  return bytes;
}

std::vector<std::byte> message_of(std::string_view hex) {
  std::vector<std::byte> bytes(hex.size() / 2);
  REQUIRE(from_hex(hex, bytes));
  return bytes;
}

Ed25519Seed seed_of(std::string_view hex) {
  Ed25519Seed seed;
  seed.bytes = bytes_of<32>(hex);
  return seed;
}

Signature sign_text(std::string_view content, const SecretKey& key, std::string_view comment) {
  return sign(hash<Blake2b512>(as_bytes(content)), key, comment);
}

// Made by minisign 0.11 of Debian 12: minisign -G -W; minisign -S -t 'trusted words'; minisign -S -l.
const std::string kPublicText =
    "untrusted comment: minisign public key 6707E64A6236A14\n"
    "RWQUaiOmZH5wBj3EFzOpy6i7a5tTUggBq1M8KlVH4OrDLXbMfaZxCfO8\n";
const std::string kSecretText =
    "untrusted comment: minisign encrypted secret key\n"
    "RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAFGojpmR+cAbnXO/"
    "VCxOOl+1CnB8rcDDlUbJ6"
    "l6kICiYBJOSLbn54/"
    "T3EFzOpy6i7a5tTUggBq1M8KlVH4OrDLXbMfaZxCfO8AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
const std::string kHashedText =
    "untrusted comment: signature from minisign secret key\n"
    "RUQUaiOmZH5wBu0sP5TydpRTNdOE0Krcl4Mml1UEYI9R1PoPg3/Ayz/UvwxUErWdi0K3l7+SzfKuurRt911ZPiQKiZbdOfUN/gM=\n"
    "trusted comment: trusted words\n"
    "xjmlzQeWuKeRTh7suSLnOnMtq+b9I6Otp6Hv/hQi7qCsuatvH0RiEVrlo28cwLW+xKyseVSOhV5eflH1JooLDQ==\n";
const std::string kLegacyText =
    "untrusted comment: signature from minisign secret key\n"
    "RWQUaiOmZH5wBmgj1h59aS/Ujj7NUXsfrb606ptKrNSgU4U5uJOp/CZdXw6/XgwwzfRtqX5BcZCUgUqytox0h6JDb8es6tD7sQo=\n"
    "trusted comment: timestamp:1795574186\tfile:f\n"
    "u/cYT8uV+yCW7T65WkpvSrPYp82zGaief6bUZ0OLOHTqe5CxES+h8DSV6u8e7qU4uTZUTdQQN5H8aF1OrOVUCA==\n";
const std::string kContent = "hello\n";

// Costs milliseconds, and takes the two ways in which libsodium derives scrypt's numbers.
constexpr PasswordCost kByOperations{32768, 16u << 20};
constexpr PasswordCost kByMemory{1u << 20, 1u << 20};

/// A key's record with one byte changed.
std::string with_byte(const std::string& text, std::size_t offset, char value) {
  const std::size_t line = text.find('\n') + 1;
  auto record = parse_base64(std::string_view(text).substr(line, text.find('\n', line) - line)).value();
  record.at(offset) = static_cast<std::byte>(value);
  return text.substr(0, line) + to_base64(record) + text.substr(text.find('\n', line));
}

}  // namespace

TEST_CASE("base64 follows RFC 4648, and nothing else is read") {
  // RFC 4648, section 10
  const struct {
    std::string plain, text;
  } vectors[] = {{"", ""},
                 {"f", "Zg=="},
                 {"fo", "Zm8="},
                 {"foo", "Zm9v"},
                 {"foob", "Zm9vYg=="},
                 {"fooba", "Zm9vYmE="},
                 {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, text] : vectors) {
    CHECK(to_base64(as_bytes(plain)) == text);
    const auto parsed = parse_base64(text);
    REQUIRE(parsed);
    CHECK(as_text(*parsed) == plain);
  }
  for (const char* text : {"Z", "Zg", "Zg=", "Zh==", "Zm9=", "=", "====", "Zg==Zg==", "Zm9v ", " Zm9v",
                           "Zm 9v", "Zm9v\n", "Zm-v", "Z===", "\nZm9", "Zm9vYg=\n"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_base64(text));
  }
}

TEST_CASE("Ed25519 gives the published keys and signatures") {
  // RFC 8032, 7.1, tests 1 to 3
  const struct {
    std::string seed, key, message, signature;
  } vectors[] = {
      {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
       "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
       "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf"
       "5f0595b"
       "be24655141438e7a100b"},
      {"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
       "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
       "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2"
       "eaeb430"
       "2aeeb00d291612bb0c00"},
      {"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
       "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
       "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c1"
       "5e9716e"
       "d28dc027beceea1ec40a"},
  };
  for (const auto& vector : vectors) {
    const auto seed = seed_of(vector.seed);
    const auto key = ed25519_public_key(seed);
    CHECK(to_hex(key.bytes) == vector.key);
    const auto message = message_of(vector.message);
    const auto signature = ed25519_sign(seed, message);
    CHECK(to_hex(signature.bytes) == vector.signature);
    CHECK(ed25519_verify(key, message, signature));
    for (std::size_t bit = 0; bit < 512; ++bit) {
      auto wrong = signature;
      wrong.bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
      CHECK_FALSE(ed25519_verify(key, message, wrong));
    }
    CHECK_FALSE(ed25519_verify(key, as_bytes("other"), signature));
  }
}

TEST_CASE("minisign's keys and signatures are read, written and verified") {
  const PublicKey key = parse_public_key(kPublicText, "a.pub");
  CHECK(to_string(key.id) == "6707E64A6236A14");
  CHECK(to_text(key) == kPublicText);
  CHECK(parse_public_key(to_line(key), "line") == key);
  CHECK_FALSE(is_locked(kSecretText, "a.key"));
  const SecretKey secret = parse_secret_key(kSecretText, "a.key", "");
  CHECK(secret.public_key() == key);

  const Signature hashed = parse_signature(kHashedText, "f.minisig");
  CHECK(hashed.prehashed);
  CHECK(hashed.trusted_comment == "trusted words");
  CHECK(to_text(hashed) == kHashedText);
  CHECK(check_signature(hashed, key, as_bytes(kContent)) == SignatureCheck::valid);
  const Signature legacy = parse_signature(kLegacyText, "f.minisig");
  CHECK_FALSE(legacy.prehashed);
  CHECK(to_text(legacy) == kLegacyText);
  CHECK(check_signature(legacy, key, as_bytes(kContent)) == SignatureCheck::valid);

  // Ed25519 is deterministic: the same key makes the same signature as minisign.
  CHECK(to_text(sign_text(kContent, secret, "trusted words")) == kHashedText);
}

TEST_CASE("any change makes the signature invalid, and the result names the reason") {
  const SecretKey secret = new_secret_key();
  const PublicKey key = secret.public_key();
  const Signature good = sign_text("content", secret, "comment");
  CHECK(check_signature(good, key, as_bytes("content")) == SignatureCheck::valid);
  CHECK(check_signature(good, key, as_bytes("Content")) == SignatureCheck::wrong_content);
  CHECK(check_signature(good, new_secret_key().public_key(), as_bytes("content")) ==
        SignatureCheck::other_key);
  PublicKey impostor = new_secret_key().public_key();
  impostor.id = key.id;
  CHECK(check_signature(good, impostor, as_bytes("content")) == SignatureCheck::wrong_content);

  Signature changed = good;
  changed.trusted_comment = "Comment";
  CHECK(check_signature(changed, key, as_bytes("content")) == SignatureCheck::wrong_comment);
  changed = good;
  changed.comment.bytes[0] ^= std::byte{1};
  CHECK(check_signature(changed, key, as_bytes("content")) == SignatureCheck::wrong_comment);
  changed = good;
  changed.content.bytes[63] ^= std::byte{1};
  CHECK(check_signature(changed, key, as_bytes("content")) == SignatureCheck::wrong_content);
  // A content that is the digest itself is not what was signed.
  changed = good;
  changed.prehashed = false;
  CHECK(check_signature(changed, key, as_bytes("content")) == SignatureCheck::wrong_content);
  changed = good;
  changed.untrusted_comment = "anything";
  CHECK(check_signature(changed, key, as_bytes("content")) == SignatureCheck::valid);
}

TEST_CASE("a secret key that is locked with a password opens only with this password") {
  const SecretKey key = new_secret_key();
  for (const PasswordCost& cost : {kByOperations, kByMemory}) {
    const std::string text = to_text(key, "secret", cost);
    CHECK(is_locked(text, "k"));
    CHECK(parse_secret_key(text, "k", "secret").seed.bytes == key.seed.bytes);
    CHECK(parse_secret_key(text, "k", "secret").id == key.id);
    for (const char* wrong : {"", "Secret", "secret "})
      CHECK_ERROR(parse_secret_key(text, "k", wrong), ErrorKind::malformed, "k: the password is wrong");
    // Salted: the same key never looks the same.
    CHECK(to_text(key, "secret", cost) != text);
  }
  CHECK(to_text(key, "") == to_text(key, ""));
  CHECK(parse_secret_key(to_text(key, ""), "k", "ignored").seed.bytes == key.seed.bytes);
}

TEST_CASE("key files that OpenSSL's scrypt locked open with libsodium's") {
  // Written by Sluice 0.1.0 for the password "secret" and the seed 7, 10, 13, ...
  const std::string head = "untrusted comment: minisign encrypted secret key\n";
  const std::string locked[] = {
      // 32768 operations, 16 MiB of memory
      "RWRTY0IyNmT1ED2kv2oTG2oHEiIJYBCesYQxrcyMk9NgvbQkbW4AgAAAAAAAAAAAAAEAAAAAlIkKiOEB8ug0khHzcs"
      "LUjJl8OlURksJCZwNFOME0bsT2X+gmmQovDFMo/j4leKA0WwA4FeL1lIm5I/ZO0zC8O1kIcoHisJlsmIubnPwOeVP2"
      "cn4PNvClSbVUS3IKORVOFMPmYnVMPLo=\n",
      // 2^20 operations, 1 MiB
      "RWRTY0Iy3YJTxcqVQN2b29u340WCVw7aUxAKK6UB6LI/jKUoHbIAABAAAAAAAAAAEAAAAAAAucDrx07Qzh6sFkyRVO"
      "GKeeNrq8aceF1PTdHJJ9gJKbzNdpQW063V2EnTtVuBG1Y1vFW48Kj/UpK8h9kGpjw1RqXQGrB2wiMAKhRSIIyS0uHl"
      "NnfUsC7cLV3yP2sI2JMsenOpW3DcqLQ=\n",
      // 2^18 operations, 32 MiB
      "RWRTY0IyJRc1obf7n8uIi0hrBKrFOg4+muLJBIDcHlRXVB/Q+C8AAAQAAAAAAAAAAAIAAAAA94FJTpZMJX/Ny+XNyV"
      "voTkeUQQc2/5k1TN5HWs19ajr9Ftw7K7WTfOBHW4w+4ktZyD1jj2RbmqepP6VZIz2Q7MISDtUi9NSOY1yKg8npmHQ0"
      "oiNJ9WlBg90hreLJpAIa7XKBvueB4QU=\n",
  };
  const std::string open =
      "RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQIDBAUGBwgHCg0QEx"
      "YZHB8iJSgrLjE0Nzo9QENGSUxPUlVYW15hZAFgvaqfX8/H2JintEnD9uKCBst7/2laQOm4Jpg0N0McnH4JCUXd3tUV"
      "NAjJEFWNR7dLb6R8Ulew/WO9lvj7hu0=\n";
  for (const std::string& record : locked) {
    const SecretKey key = parse_secret_key(head + record, "k", "secret");
    CHECK(to_string(key.id) == "807060504030201");
    for (std::size_t i = 0; i < key.seed.bytes.size(); ++i)
      CHECK(std::to_integer<std::size_t>(key.seed.bytes[i]) == 3 * i + 7);
    CHECK(to_text(key, "") == head + open);
  }
}

TEST_CASE("damaged signatures are refused with place and cause") {
  const std::string head = "untrusted comment: c\n";
  const std::string tail = "trusted comment: t\n" + to_base64(std::vector<std::byte>(64)) + '\n';
  const auto record = [](const std::string& start, std::size_t bytes) {
    std::vector<std::byte> content(bytes);
    std::ranges::copy(as_bytes(start), content.begin());
    return to_base64(content) + '\n';
  };
  CHECK(parse_signature(head + record("ED", 74) + tail, "s").trusted_comment == "t");
  CHECK(parse_signature("untrusted comment: \r\n" + record("Ed", 74) + tail, "s").untrusted_comment.empty());
  const struct {
    std::string text, cause;
  } cases[] = {
      {"", "s: has 0 lines, expected 4"},
      {head, "s: has 1 line, expected 4"},
      {head + record("ED", 74) + tail + "\n", "s: has 5 lines, expected 4"},
      {"comment\n" + record("ED", 74) + tail, "s: line 1: expected it to begin with 'untrusted comment: '"},
      {head + "\n" + tail, "s: line 2: expected the base64 of 74 bytes, found that of 0"},
      {head + "RUQ\n" + tail, "s: line 2: expected the base64 of 74 bytes, found 3 characters that are none"},
      {head + record("ED", 73) + tail, "s: line 2: expected the base64 of 74 bytes, found that of 73"},
      {head + record("ED", 75) + tail, "s: line 2: expected the base64 of 74 bytes, found that of 75"},
      {head + record("RS", 74) + tail, "s: has the algorithm 'RS', expected 'Ed'"},
      {head + record("eD", 74) + tail, "s: has the algorithm 'eD', expected 'Ed'"},
      {head + record("ED", 74) + "comment: t\n" + to_base64(std::vector<std::byte>(64)),
       "s: line 3: expected it to begin with 'trusted comment: '"},
      {head + record("ED", 74) + "trusted comment: t\n" + to_base64(std::vector<std::byte>(63)),
       "s: line 4: expected the base64 of 64 bytes, found that of 63"},
  };
  for (const auto& [text, cause] : cases) {
    CAPTURE(text);
    CHECK_ERROR(parse_signature(text, "s"), ErrorKind::malformed, cause);
  }
}

TEST_CASE("damaged keys are refused with place and cause, and never shown") {
  const struct {
    std::string text, cause;
  } public_cases[] = {
      {"", "k: has 0 lines, expected 1"},
      {kPublicText + "x\n", "k: has 3 lines, expected 2"},
      {"untrusted comment: only\n", "k: has 1 line, expected 2"},
      {"RWQ", "k: line 1: expected the base64 of 42 bytes, found 3 characters that are none"},
      {kSecretText, "k: is a secret key; give the public one, which ends in .pub"},
      {with_byte(kPublicText, 1, 'D'), "k: has the algorithm 'ED', expected 'Ed'"},
  };
  for (const auto& [text, cause] : public_cases) {
    CAPTURE(text);
    CHECK_ERROR(parse_public_key(text, "k"), ErrorKind::malformed, cause);
  }
  const std::string locked = to_text(new_secret_key(), "p", kByMemory);
  const std::string checked = to_text(new_secret_key(), "");
  const struct {
    std::string text, cause;
  } secret_cases[] = {
      {"", "k: has 0 lines, expected 2"},
      {kPublicText, "k: line 2: expected the base64 of 158 bytes, found that of 42"},
      {"comment\nRWQ=\n", "k: line 1: expected it to begin with 'untrusted comment: '"},
      {with_byte(kSecretText, 0, 'X'), "k: has the algorithm 'Xd', expected 'Ed'"},
      {with_byte(kSecretText, 2, 'A'), "k: has the key derivation 'A"},
      {with_byte(kSecretText, 4, 'S'), "k: has the checksum algorithm 'S2', expected 'B2'"},
      {with_byte(kSecretText, 62, 'x'), "k: is damaged: the public half does not belong to the secret one"},
      {with_byte(kSecretText, 157, 'x'), "k: is damaged: its checksum does not fit"},
      {with_byte(checked, 62, 'x'), "k: is damaged: its checksum does not fit"},
      {with_byte(checked, 54, 'x'), "k: is damaged: its checksum does not fit"},
      {with_byte(locked, 60, '\0'), "k: the password is wrong, or the file is damaged"},
      {with_byte(locked, 45, '\x7f'), "k: asks for "},                             // operations
      {with_byte(locked, 52, '\x01'), "expected at most 8589934592 and 4.0 GiB"},  // memory
  };
  for (const auto& [text, cause] : secret_cases) {
    CAPTURE(text);
    CHECK_ERROR(parse_secret_key(text, "k", "p"), ErrorKind::malformed, cause);
    try {
      static_cast<void>(parse_secret_key(text, "k", "p"));
    } catch (const Error& error) {
      CHECK(std::string(error.what()).find("RWQA") == std::string::npos);
    }
  }
}

TEST_CASE("files cut anywhere are refused") {
  const std::string locked = to_text(new_secret_key(), "p", kByMemory);
  // The line end at the very end may be missing.
  const auto cut_everywhere = [](const std::string& text, const auto& parse) {
    for (std::size_t size = 0; size + 1 < text.size(); ++size) {
      CAPTURE(size);
      CHECK_ERROR(parse(text.substr(0, size)), ErrorKind::malformed, "f: ");
    }
    static_cast<void>(parse(text.substr(0, text.size() - 1)));
  };
  cut_everywhere(kHashedText, [](const std::string& text) { return parse_signature(text, "f"); });
  cut_everywhere(kPublicText, [](const std::string& text) { return parse_public_key(text, "f"); });
  cut_everywhere(kSecretText, [](const std::string& text) { return parse_secret_key(text, "f", ""); });
  cut_everywhere(locked, [](const std::string& text) { return parse_secret_key(text, "f", "p"); });
}
