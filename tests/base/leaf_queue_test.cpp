#include "base/leaf_queue.h"

#include <doctest/doctest.h>

#include <random>
#include <thread>
#include <vector>

#include "base/hasher.h"
#include "base/merkle.h"
#include "tests/support/random_bytes.h"

namespace sluice::base {
namespace {

using tests::random_bytes;

/// The expected digests of a stream and of files, whose leaves all go into one queue.
struct Work {
  explicit Work(std::mt19937& random) : stream(random_bytes(random, random() % 3000000)) {
    for (std::size_t i = random() % 5; i > 0; --i) {
      files.push_back(random_bytes(random, random() % 1500000));
      leaves.emplace_back(divide_up(files.back().size(), kMerkleBlockBytes));
    }
  }
  void add_to(LeafQueue& queue) {
    for (std::size_t i = 0; i < files.size(); ++i) queue.add(files[i], leaves[i]);
  }
  void check(PairedHasher<Sha256>& chain) const {
    CHECK(chain.final() == hash<Sha256>(stream));
    for (std::size_t i = 0; i < files.size(); ++i) {
      LeafHasher expected;
      expected.update(files[i]);
      CHECK(leaves[i] == expected.final());
    }
  }

  std::vector<std::byte> stream;
  std::vector<std::vector<std::byte>> files;
  std::vector<std::vector<Sha256>> leaves;
};

}  // namespace

TEST_CASE("leaves from a queue get their digests, and so does the stream that is hashed with them") {
  std::mt19937 random(21);
  for (int round = 0; round < 30; ++round) {
    CAPTURE(round);
    Work work(random);
    LeafQueue queue;
    PairedHasher<Sha256> chain;
    work.add_to(queue);
    queue.hash_interleaved(chain, work.stream);
    queue.hash();
    work.check(chain);
  }
}

TEST_CASE("several threads may take leaves while more are added") {
  std::mt19937 random(22);
  for (int round = 0; round < 30; ++round) {
    CAPTURE(round);
    Work work(random);
    LeafQueue queue;
    PairedHasher<Sha256> chain;
    {
      std::jthread other([&] { queue.hash(); });
      std::jthread adding([&] {
        work.add_to(queue);
        queue.hash();
      });
      queue.hash_interleaved(chain, work.stream);
    }
    work.check(chain);
  }
}

}  // namespace sluice::base
