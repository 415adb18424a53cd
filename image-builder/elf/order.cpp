#include "image-builder/elf/order.h"

#include <algorithm>
#include <cstring>

#include "image-builder/elf/architecture.h"
#include "image-builder/elf/edit.h"
#include "support/error.h"

namespace pyram::builder {
namespace {

// Fewer bytes than this, of pages that are less wanted than both neighbours stay with them: every
// run costs the loader a system call and the kernel a mapping, at every start, and each such page
// costs a cold start its decompression. Between pages that every start wants, and between those
// that only some programs want. docs/image-format.md has the figures that they were chosen by.
constexpr std::uint64_t kSmallestGap = std::uint64_t{32} << 10;
constexpr std::uint64_t kSmallestGapOfSome = std::uint64_t{128} << 10;

// Pages of one segment that are used alike.
struct Run {
  std::size_t segment = 0;    // Index of its PT_LOAD among the program headers.
  std::uint64_t from = 0;     // Position in the old file, a whole page.
  std::uint64_t length = 0;   // Whole pages.
  std::uint64_t address = 0;  // Of its first page.
  std::uint64_t to = 0;       // Position in the new file.
  std::size_t rank = 0;       // 0 is most wanted.
};

// The rank of each page of the old file.
class Ranks {
 public:
  Ranks(std::uint64_t file_size, std::size_t coldest, const Architecture& architecture)
      : architecture_(architecture),
        ranks_(architecture.page_up(file_size) / architecture.page, coldest) {}
  void want(std::uint64_t offset, std::uint64_t length, std::size_t rank) {
    const std::uint64_t size = architecture_.page;
    const std::uint64_t end =
        std::min(architecture_.page_up(offset + length) / size, ranks_.size());
    for (std::uint64_t page = offset / size; page < end; ++page) {
      ranks_[page] = std::min(ranks_[page], rank);
    }
  }
  [[nodiscard]] std::size_t of(std::uint64_t page) const { return ranks_[page]; }
  [[nodiscard]] const Architecture& architecture() const { return architecture_; }

 private:
  const Architecture& architecture_;
  std::vector<std::size_t> ranks_;
};

// A segment's pages as runs, small gaps closed.
std::vector<Run> runs_of(const Elf64_Phdr& load, std::size_t index, const Ranks& ranks,
                         std::size_t coldest) {
  const Architecture& architecture = ranks.architecture();
  const std::uint64_t size = architecture.page;
  const std::uint64_t first = load.p_offset / size;
  const std::uint64_t end = architecture.page_up(load.p_offset + load.p_filesz) / size;
  std::vector<std::size_t> rank;
  for (std::uint64_t page = first; page < end; ++page) rank.push_back(ranks.of(page));
  for (std::size_t cold = coldest; cold > 0; --cold) {
    for (std::size_t i = 0; i < rank.size();) {
      std::size_t next = i;
      while (next < rank.size() && rank[next] == rank[i]) ++next;
      const bool inside = i > 0 && next < rank.size();
      if (inside && rank[i] == cold && rank[i - 1] < cold && rank[next] < cold) {
        const std::size_t around = std::max(rank[i - 1], rank[next]);
        if ((next - i) * size < (around == 0 ? kSmallestGap : kSmallestGapOfSome)) {
          std::fill(rank.begin() + static_cast<std::ptrdiff_t>(i),
                    rank.begin() + static_cast<std::ptrdiff_t>(next), around);
        }
      }
      i = next;
    }
  }
  std::vector<Run> result;
  for (std::size_t i = 0; i < rank.size(); ++i) {
    if (result.empty() || result.back().rank != rank[i]) {
      result.push_back({index, (first + i) * size, 0,
                        architecture.page_down(load.p_vaddr) + i * size, 0, rank[i]});
    }
    result.back().length += size;
  }
  return result;
}

// Whether the file is built as this expects: whole pages, and nothing but the last segment ends in
// memory that the file doesn't have.
bool is_known_kind(const std::vector<Elf64_Phdr>& headers, std::uint64_t file_size,
                   const Architecture& architecture) {
  const Elf64_Phdr* last = nullptr;
  std::uint64_t held = 0;
  for (const Elf64_Phdr& header : headers) {
    if (header.p_type != PT_LOAD) continue;
    constexpr std::uint64_t kHighest = std::uint64_t{1} << 48;
    if (header.p_vaddr > kHighest || header.p_memsz > kHighest) return false;
    if (header.p_filesz == 0 || header.p_filesz > header.p_memsz || header.p_offset > file_size ||
        header.p_filesz > file_size - header.p_offset ||
        header.p_vaddr % architecture.page != header.p_offset % architecture.page) {
      return false;
    }
    if (last != nullptr &&
        (last->p_memsz != last->p_filesz || architecture.page_up(last->p_vaddr + last->p_filesz) >
                                                architecture.page_down(header.p_vaddr))) {
      return false;
    }
    last = &header;
    held += header.p_filesz;
  }
  // Segments may share a page where they meet, but no more.
  return last != nullptr && held <= file_size;
}

Elf64_Phdr piece_of(const Elf64_Phdr& load, const Run& run, const Architecture& architecture) {
  Elf64_Phdr piece = load;
  piece.p_vaddr = std::max(run.address, load.p_vaddr);
  piece.p_paddr = piece.p_vaddr;
  piece.p_offset = run.to + (piece.p_vaddr - run.address);
  const std::uint64_t file_end = load.p_vaddr + load.p_filesz;
  const std::uint64_t end = std::min(run.address + run.length, file_end);
  piece.p_filesz = end - piece.p_vaddr;
  piece.p_memsz = piece.p_filesz;
  if (end == file_end) piece.p_memsz += load.p_memsz - load.p_filesz;
  piece.p_align = architecture.page;
  return piece;
}

// The headers of the new file; nothing when one cannot be expressed.
std::optional<std::vector<Elf64_Phdr>> new_headers(const std::vector<Elf64_Phdr>& headers,
                                                   const std::vector<Run>& runs,
                                                   const Architecture& architecture) {
  std::vector<Elf64_Phdr> result;
  for (std::size_t i = 0; i < headers.size(); ++i) {
    if (headers[i].p_type == PT_PHDR) continue;  // Where they are now is in no segment.
    if (headers[i].p_type == PT_LOAD) {
      for (const Run& run : runs) {
        if (run.segment == i) result.push_back(piece_of(headers[i], run, architecture));
      }
      continue;
    }
    Elf64_Phdr header = headers[i];
    if (header.p_filesz != 0) {
      const auto run = std::find_if(runs.begin(), runs.end(), [&](const Run& candidate) {
        return header.p_vaddr >= candidate.address &&
               header.p_vaddr - candidate.address < candidate.length;
      });
      if (run == runs.end()) return std::nullopt;
      header.p_offset = run->to + (header.p_vaddr - run->address);
    }
    result.push_back(header);
  }
  return result;
}

// Every page of every segment is what it was, and the dynamic section says the same.
void check_same(const ElfView& before, std::span<const std::byte> old_bytes,
                const OrderedElf& result) {
  const ElfView after(result.bytes, before.name());
  const auto differ = [&] {
    return Error(ExitCode::kFailed, "cannot lay out the pages of " + quote(before.name()) +
                                        " anew: the result would differ");
  };
  std::uint64_t covered = 0;
  for (const Elf64_Phdr& piece : after.program_headers()) {
    if (piece.p_type != PT_LOAD) continue;
    covered += piece.p_filesz;
    const std::uint64_t from = before.file_offset(piece.p_vaddr, piece.p_filesz);
    if (after.file_offset(piece.p_vaddr, piece.p_filesz) != piece.p_offset ||
        std::memcmp(old_bytes.data() + from, result.bytes.data() + piece.p_offset,
                    piece.p_filesz) != 0) {
      throw differ();
    }
  }
  for (const Elf64_Phdr& load : before.program_headers()) {
    if (load.p_type == PT_LOAD) covered -= load.p_filesz;
  }
  const ElfFacts old_facts = before.facts();
  const ElfFacts new_facts = after.facts();
  if (covered != 0 || old_facts.needed != new_facts.needed ||
      old_facts.soname != new_facts.soname || old_facts.run_paths != new_facts.run_paths) {
    throw differ();
  }
}

}  // namespace

std::vector<FileRange> OrderedElf::moved(const FileRange& range) const {
  std::vector<FileRange> result;
  for (const Move& move : moves) {
    const std::uint64_t begin = std::max(range.offset, move.from);
    const std::uint64_t end = std::min(range.offset + range.length, move.from + move.length);
    if (begin < end) result.push_back({move.to + (begin - move.from), end - begin});
  }
  return result;
}

bool is_laid_out(const ElfView& elf) {
  const std::vector<Elf64_Phdr> headers = elf.program_headers();
  std::optional<Elf64_Phdr> last;
  for (const Elf64_Phdr& header : headers) {
    if (header.p_type != PT_LOAD) continue;
    const bool goes_on =
        last && last->p_flags == header.p_flags && last->p_vaddr + last->p_filesz == header.p_vaddr;
    if (goes_on && last->p_offset + last->p_filesz != header.p_offset) return true;
    last = header;
  }
  return false;
}

std::optional<OrderedElf> order_pages(std::span<const std::byte> bytes,
                                      const std::vector<std::vector<FileRange>>& uses,
                                      const std::string& name) {
  const ElfView view(bytes, name);
  const std::vector<Elf64_Phdr> headers = view.program_headers();
  const Architecture* const architecture = find_architecture(view.header().e_machine);
  if (architecture == nullptr || !is_known_kind(headers, bytes.size(), *architecture)) {
    return std::nullopt;
  }

  const std::size_t coldest = uses.size();
  Ranks ranks(bytes.size(), coldest, *architecture);
  for (std::size_t rank = 0; rank < uses.size(); ++rank) {
    for (const FileRange& range : uses[rank]) ranks.want(range.offset, range.length, rank);
  }
  // What is read through file positions has to stay in one piece.
  ranks.want(0, sizeof(Elf64_Ehdr), 0);
  for (const Elf64_Phdr& header : headers) {
    if (header.p_type == PT_DYNAMIC || header.p_type == PT_NOTE || header.p_type == PT_INTERP) {
      ranks.want(header.p_offset, header.p_filesz, 0);
    }
  }
  const auto names = view.dynamic_value(DT_STRTAB);
  const auto names_size = view.dynamic_value(DT_STRSZ);
  if (names && names_size) ranks.want(view.file_offset(*names), *names_size, 0);

  std::vector<Run> runs;
  for (std::size_t i = 0; i < headers.size(); ++i) {
    if (headers[i].p_type != PT_LOAD) continue;
    const std::vector<Run> more = runs_of(headers[i], i, ranks, coldest);
    runs.insert(runs.end(), more.begin(), more.end());
  }
  if (runs.empty() || runs.front().from != 0) return std::nullopt;

  // The run with the file's header first, then the program headers, then what is wanted most.
  std::vector<Run*> order;
  order.reserve(runs.size());
  for (Run& run : runs) order.push_back(&run);
  std::stable_sort(order.begin() + 1, order.end(),
                   [](const Run* a, const Run* b) { return a->rank < b->rank; });
  const std::uint64_t table = runs.front().length;
  const std::size_t most_headers = headers.size() + runs.size();
  std::uint64_t end = table + architecture->page_up(most_headers * sizeof(Elf64_Phdr));
  for (Run* run : order) {
    if (run == &runs.front()) continue;
    run->to = end;
    end += run->length;
  }

  const auto fresh = new_headers(headers, runs, *architecture);
  constexpr std::size_t kMostHeaders = 60000;  // e_phnum has 16 bits.
  if (!fresh || fresh->size() > kMostHeaders) return std::nullopt;
  OrderedElf result;
  result.bytes.resize(end);
  for (const Run& run : runs) {
    const std::uint64_t there = std::min<std::uint64_t>(run.length, bytes.size() - run.from);
    std::memcpy(result.bytes.data() + run.to, bytes.data() + run.from, there);
    result.moves.push_back({run.from, run.length, run.to});
  }
  Elf64_Ehdr header = view.header();
  header.e_phoff = table;
  header.e_phnum = static_cast<Elf64_Half>(fresh->size());
  header.e_shoff = 0;
  header.e_shnum = 0;
  header.e_shstrndx = 0;
  std::memcpy(result.bytes.data(), &header, sizeof header);
  std::memcpy(result.bytes.data() + table, fresh->data(), fresh->size() * sizeof(Elf64_Phdr));
  // The first page differs in the file's header, which no program reads through memory.
  std::vector<std::byte> expected(bytes.begin(), bytes.end());
  std::memcpy(expected.data(), &header, sizeof header);
  check_same(view, expected, result);
  return result;
}

}  // namespace pyram::builder
