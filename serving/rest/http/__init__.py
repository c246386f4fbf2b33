"""HTTP/1.1 on asyncio. It knows no route and no model."""
