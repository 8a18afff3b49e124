"""What a book says, as text for a terminal."""

from ledger import money


def balance(book):
    """A line for each account, in alphabetical order, and the total, which is zero in a sound book."""
    totals = book.balances()
    width = max((len(account) for account in totals), default=7)
    lines = [f"{account:<{width}}  {money.show(cents):>12}" for account, cents in sorted(totals.items())]
    lines.append(f"{'total':<{width}}  {money.show(sum(totals.values())):>12}")
    return "\n".join(lines)


def statement(book, account):
    """Every move of one account, oldest first."""
    lines = []
    for transaction, cents in book.moves(account):
        lines.append(f"{transaction.date.isoformat()}  {transaction.description:<28.28}  {money.show(cents):>12}")
    return "\n".join(lines)
