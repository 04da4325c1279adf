#include "base/hasher.h"

#include <doctest/doctest.h>

#include <random>
#include <string>

#include "base/digest.h"
#include "base/wide_sha.h"
#include "base/zip_codec.h"

using namespace sluice::base;

namespace {

struct Vector {
  std::string message, hex;
};

// RFC 1321, A.5
const Vector kMd5[] = {
    {"", "d41d8cd98f00b204e9800998ecf8427e"},
    {"a", "0cc175b9c0f1b6a831c399e269772661"},
    {"abc", "900150983cd24fb0d6963f7d28e17f72"},
    {"message digest", "f96b697d7cb7938d525a2f31aaf161d0"},
    {"abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"},
    {"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", "d174ab98d277d9f5a5611c2c9f419d9f"},
    {"12345678901234567890123456789012345678901234567890123456789012345678901234567890",
     "57edf4a22be3c955ac49da2e2107b67a"},
};

constexpr const char* kTwoBlocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";

// FIPS 180-2, appendix A (the same examples accompany FIPS 180-4)
const Vector kSha1[] = {
    {"abc", "a9993e364706816aba3e25717850c26c9cd0d89d"},
    {kTwoBlocks, "84983e441c3bd26ebaae4aa1f95129e5e54670f1"},
    {std::string(1000000, 'a'), "34aa973cd4c4daa4f61eeb2bdbad27316534016f"},
    {"", "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
};

// FIPS 180-2, appendix B
const Vector kSha256[] = {
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {kTwoBlocks, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    {std::string(1000000, 'a'), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
};

// RFC 7693, appendix A; the others from Python's hashlib.blake2b
const Vector kBlake2b512[] = {
    {"abc",
     "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d17d87c5392aab792dc252d5de4533cc9518d38aa"
     "8dbf1925ab"
     "92386edd4009923"},
    {"",
     "786a02f742015903c6c6fd852552d272912f4740e15847618a86e217f71f5419d25e1031afee585313896444934eb04b903a685"
     "b1448b755d"
     "56f701afe9be2ce"},
    {std::string(1000000, 'a'),
     "98fb3efb7206fd19ebf69b6f312cf7b64e3b94dbe1a17107913975a793f177e1d077609d7fba363cbba00d05f7aa4e4fa8715d6"
     "428104c0a75643b0ff3fd3eaf"},
};

template <typename D, std::size_t N>
void check_vectors(const Vector (&vectors)[N], std::mt19937& random) {
  Hasher<D> reused;
  for (const auto& [message, hex] : vectors) {
    CHECK(to_hex(hash<D>(as_bytes(message))) == hex);
    for (int round = 0; round < 20; ++round) {
      Bytes rest = as_bytes(message);
      while (!rest.empty()) {
        const std::size_t limit = std::min<std::size_t>(rest.size(), round % 2 == 0 ? 70 : rest.size());
        const auto take = std::uniform_int_distribution<std::size_t>(0, limit)(random);
        reused.update(rest.first(take));
        rest = rest.subspan(take);
      }
      CHECK(to_hex(reused.final()) == hex);
    }
  }
}

}  // namespace

TEST_CASE("hashers give the published digests, for whole messages and any chunks, and are reset by final") {
  std::mt19937 random(1);
  check_vectors<Md5>(kMd5, random);
  check_vectors<Sha1>(kSha1, random);
  check_vectors<Sha256>(kSha256, random);
  check_vectors<Blake2b512>(kBlake2b512, random);
}

TEST_CASE("CRC-32 of the check text") {
  CHECK(crc32(as_bytes("123456789")) == 0xCBF43926);  // the catalogue of parametrised CRC algorithms
  CHECK(crc32({}) == 0);
}

TEST_CASE("a raw deflate stream is decompressed as far as is asked, and damage is noticed") {
  // python3: zlib.compressobj(9, wbits=-15) of 1000 times "ab"
  const std::vector<std::byte> stream = [] {
    std::vector<std::byte> bytes;
    for (const int b : {0x4b, 0x4c, 0x4a, 0x1c, 0x85, 0xa3, 0x70, 0x14, 0x8e, 0xc2, 0x51, 0x38, 0x0a, 0x47,
                        0xe1, 0x10, 0x87, 0x00})
      bytes.push_back(static_cast<std::byte>(b));
    return bytes;
  }();
  auto followed = stream;
  followed.push_back(std::byte{0xff});
  const auto whole = inflate(followed, 1u << 20);
  REQUIRE(whole);
  CHECK(whole->complete);
  CHECK(whole->bytes.size() == 2000);
  CHECK(as_text(whole->bytes).ends_with("abab"));
  const auto head = inflate(stream, 3);
  REQUIRE(head);
  CHECK_FALSE(head->complete);
  CHECK(as_text(head->bytes) == "aba");
  CHECK_FALSE(inflate(Bytes(stream).first(stream.size() - 1), 1u << 20));
  CHECK_FALSE(inflate(as_bytes("\xff\xff"), 10));
  CHECK_FALSE(inflate({}, 10));
}

TEST_CASE("a moved hasher keeps its state") {
  Hasher<Sha256> first;
  first.update(as_bytes("a"));
  Hasher<Sha256> second = std::move(first);
  second.update(as_bytes("bc"));
  CHECK(to_hex(second.final()) == kSha256[0].hex);
}

TEST_CASE("hexadecimal text is read in either case, written in lower case, and refused otherwise") {
  const auto digest = parse_digest<Md5>("00FF7f80aBcDeF0123456789AbCdEf01");
  REQUIRE(digest);
  CHECK(to_hex(*digest) == "00ff7f80abcdef0123456789abcdef01");
  for (const char* bad : {"", "00", "00ff7f80abcdef0123456789abcdef0", "00ff7f80abcdef0123456789abcdef011",
                          "0gff7f80abcdef0123456789abcdef01", "00ff7f80abcdef0123456789abcdef 1",
                          "0x0f7f80abcdef0123456789abcdef01", "-0ff7f80abcdef0123456789abcdef01"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_digest<Md5>(bad));
  }
}

TEST_CASE("messages that are hashed together have the digests that OpenSSL computes one by one") {
  if (!has_wide_sha()) MESSAGE("SKIPPED: sixteen at a time needs AVX-512");
  std::mt19937 random(5);
  // Every length around the borders of blocks and of padding, and a leaf of BEP 52; runs that fill sixteen
  // lanes, nearly, and more, with one of another length at a place of its own in each.
  std::vector<std::size_t> lengths = {16384, 16383, 1000};
  for (std::size_t length = 0; length <= 200; ++length) lengths.push_back(length);
  for (const std::size_t length : lengths) {
    for (const std::size_t count : {1, 2, 5, 8, 9, 15, 16, 17, 33}) {
      CAPTURE(length);
      CAPTURE(count);
      std::vector<std::vector<std::byte>> contents(count, std::vector<std::byte>(length));
      if (random() % 2 == 0) contents[random() % count].resize(length / 2);
      for (auto& content : contents)
        for (auto& byte : content) byte = static_cast<std::byte>(random());
      const std::vector<Bytes> messages(contents.begin(), contents.end());
      std::vector<Sha256> digests(messages.size());
      hash_each(messages, digests);
      for (std::size_t i = 0; i < messages.size(); ++i) CHECK(digests[i] == hash<Sha256>(messages[i]));
    }
  }
}

TEST_CASE("messages that are hashed together have the published digests") {
  for (const auto& [message, hex] : kSha256) {
    const std::vector<Bytes> messages(16, as_bytes(message));
    std::vector<Sha256> digests(messages.size());
    hash_each(messages, digests);
    for (const Sha256& digest : digests) CHECK(to_hex(digest) == hex);
  }
}
